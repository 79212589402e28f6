"""The model class for Triton's Python backend: one session for each instance.

Triton imports this through the model.py of a repository, in a process of its own. A
refusal is one line in the server's log, and the model is then not ready.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keystore import KeystoreError
from mlguard.bundle.about import predicts
from mlguard.errors import KeySourceError, MlguardError
from mlguard.files import read_bounded
from mlguard.issuing import REVOCATIONS_VARIABLE, Conditions
from mlguard.runtime import Session
from mlguard.serving.batches import by_shape, split
from mlguard.serving.key_sources import chosen_source, open_key
from mlguard.serving.triton import BUNDLE
from mlguard.signing import read_signer

SIGNERS = "MLGUARD_SIGNER_FILES"  # public keys, one of which must have signed
MAX_FILE_BYTES = 1 << 20


class TritonPythonModel:
    """One instance of a served bundle."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle beside model.py with the key of this server."""
        parameters = json.loads(args["model_config"])["parameters"]
        told = {name: value["string_value"] for name, value in parameters.items()}
        path = Path(args["model_repository"], args["model_version"], BUNDLE)
        try:
            key = open_key(chosen_source(told.get("key_source", "")))
            threads = int(told.get("threads", "0"))
            self._session = Session.open(
                path, key, conditions=conditions_here(), threads=threads
            )
        except (MlguardError, KeystoreError) as refusal:
            hint = f" ({refusal.hint})" if refusal.hint else ""
            # A new exception: this one's frames hold the key.
            raise RuntimeError(f"mlguard: error: {refusal}{hint}") from None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, batching images of one size."""
        import triton_python_backend_utils as triton  # only there, in Triton

        session = self._session
        if not predicts(session.inputs, session.image, session.task):
            return [self._run(request, triton) for request in requests]
        answers: list[Any] = [None] * len(requests)
        images = [
            triton.get_input_tensor_by_name(request, "images").as_numpy()
            for request in requests
        ]
        for group in by_shape(images):
            try:
                classes = self._session.predict(
                    np.concatenate([images[i] for i in group])
                )
            except MlguardError as refusal:
                error = triton.TritonError(f"mlguard: error: {refusal}")
                for place in group:
                    answers[place] = triton.InferenceResponse([], error)
                continue
            for place, part in zip(group, split(classes, images, group), strict=True):
                tensor = triton.Tensor("classes", part)
                answers[place] = triton.InferenceResponse([tensor])
        return answers

    def _run(self, request: Any, triton: Any) -> Any:
        """Answer one request with all the tensors of the model."""
        feeds = {
            tensor.name: triton.get_input_tensor_by_name(request, tensor.name)
            for tensor in self._session.inputs
        }
        given = {name: one.as_numpy() for name, one in feeds.items() if one}
        try:
            found = self._session.run(given)
        except MlguardError as refusal:
            error = triton.TritonError(f"mlguard: error: {refusal}")
            return triton.InferenceResponse([], error)
        return triton.InferenceResponse(
            [triton.Tensor(name, np.asarray(value)) for name, value in found.items()]
        )


def conditions_here() -> Conditions:
    """Return the conditions for issued bundles, from the server's environment.

    Raises:
        KeySourceError: A file that it names cannot be read.
        SignatureNotTrusted: A file does not hold a public key.
    """
    named = os.environ.get(SIGNERS, "").split(os.pathsep)
    signers = [read_signer(_content(one), name=one) for one in named if one]
    listed = os.environ.get(REVOCATIONS_VARIABLE)
    return Conditions(signers=signers, revocations=_content(listed) if listed else None)


def _content(path: str) -> bytes:
    try:
        return read_bounded(Path(path), MAX_FILE_BYTES)
    except OSError as error:
        raise KeySourceError(f"cannot read {path}: {error.strerror}") from None
