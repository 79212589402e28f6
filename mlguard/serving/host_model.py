"""The model class for Triton's Python backend on a host without the key.

Normalized and transformed pixels go in, scores come out. Triton's own ONNX Runtime
backend can run the same model.onnx without any Python: docs/deploy/key-at-client.md.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlguard.engine import ORT_ERRORS, onnxruntime
from mlguard.runtime import Compute
from mlguard.runtime.providers import first_line
from mlguard.serving.batches import by_shape, split
from mlguard.serving.triton import PLAIN


class TritonPythonModel:
    """One instance of a model without its key."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model beside model.py."""
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"])
        path = Path(args["model_repository"], args["model_version"], PLAIN)
        options = Compute(threads=threads).session_options()
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, batching images of one size."""
        import triton_python_backend_utils as triton  # only there, in Triton

        (source,) = self._session.get_inputs()
        names = [one.name for one in self._session.get_outputs()]
        answers: list[Any] = [None] * len(requests)
        pixels = [
            triton.get_input_tensor_by_name(request, source.name).as_numpy()
            for request in requests
        ]
        for group in by_shape(pixels):
            together = np.concatenate([pixels[place] for place in group])
            try:
                found = self._session.run(names, {source.name: together})
            except ORT_ERRORS as refusal:
                error = triton.TritonError(first_line(refusal))
                for place in group:
                    answers[place] = triton.InferenceResponse([], error)
                continue
            parts = zip(*(split(one, pixels, group) for one in found), strict=True)
            for place, own in zip(group, parts, strict=True):
                tensors = [
                    triton.Tensor(name, part)
                    for name, part in zip(names, own, strict=True)
                ]
                answers[place] = triton.InferenceResponse(tensors)
        return answers
