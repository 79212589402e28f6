"""Write a .pt2 file, a program of torch.export, as a bundle with sealed weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from mlguard.bundle import write_bundle2
from mlguard.errors import ModelFileError, ParityError
from mlguard.files import refuse_existing
from mlguard.foreign import About, Lifted, lift_model, model_of
from mlguard.foreign.compare import guesses
from mlguard.foreign.sessions import load
from mlguard.keys import ModelKey, new_protection_id
from mlguard.protect.export import REFUSALS, LightGraph, cause_of, light_graph
from mlguard.protect.modules.bind import OPSET, BoundModule, compare
from mlguard.protect.modules.convert import quiet
from mlguard.protect.modules.outputs import flatten
from mlguard.protect.modules.pt2 import read_program
from mlguard.protect.modules.sizes import Sizes
from mlguard.runtime import Session


def bind_program(
    path: Path,
    key: ModelKey,
    out: Path,
    *,
    about: About | None = None,
    opset: int = OPSET,
) -> BoundModule:
    """Write a .pt2 file as a bundle whose every weight is under the key.

    Args:
        path: The file; its export decided which sizes it takes.
        key: The model key.
        out: The bundle to write; it must not exist yet.
        about: The owner's information about the model; names of inputs and outputs are
            those that `mlguard inspect` shows.
        opset: The operator set.

    Raises:
        OutputExists: Something is already at `out`.
        ModelFileError: It is not a .pt2 file, or cannot be protected.
        ParityError: The bundle answers differently from the program.
    """
    refuse_existing(out)
    program = read_program(path)
    light = _graph(program, opset, name=str(path))
    lifted = lift_model(light.graph, name=str(path), held=light.weights)
    given = _example(program, lifted, name=str(path))
    model = model_of(lifted, about or About(), name=str(path))
    subkeys = key.for_model(new_protection_id())
    differences: list[float] = []

    def check(written: Path) -> None:
        expected = flatten(_run(program, given))
        got = Session.open(written, key, bare=True).run(given)
        named = dict(zip(got, expected.values(), strict=True))
        differences.append(compare(named, got))

    write_bundle2(out, model, subkeys, check=check)
    return BoundModule(
        path=out,
        protection_id=subkeys.protection_id,
        size_bytes=out.stat().st_size,
        share=lifted.share,
        sizes=Sizes(0, "fixed when the file was exported"),
        outputs=tuple(one.name for one in lifted.outputs),
        difference=float(np.max(differences)),
    )


def _graph(program: ExportedProgram, opset: int, *, name: str) -> LightGraph:
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ParityError(
            f"{name}: torch cannot convert the program: {cause_of(error)}"
        ) from None
    if made is None:
        raise ParityError(f"{name}: torch returned no graph")
    return light_graph(made)


def _example(program: ExportedProgram, lifted: Lifted, *, name: str) -> dict[str, Any]:
    """Return random inputs of the program."""
    said = "no inputs"
    for feeds in guesses(load(lifted.graph, lifted.tensors)):
        try:
            _run(program, feeds)
        except REFUSALS as refusal:
            said = cause_of(refusal)
            continue
        return feeds
    raise ModelFileError(
        f"{name}: the program does not run on random inputs of any size tried: {said}"
    )


@torch.no_grad()
def _run(program: ExportedProgram, feeds: Mapping[str, Any]) -> object:
    tensors: list[Tensor] = [torch.from_numpy(one) for one in feeds.values()]
    return program.module()(*tensors)
