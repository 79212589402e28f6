"""Step 6 for any module: convert it to a graph, by torch.export.

Neither the layers nor torch.fx are involved, so no architecture is refused for how it
is written. If torch.export fails because sizes depend on values, as in detectors,
torch's older exporter is used. Sizes that the exporter cannot leave free are fixed, and
the notes say why.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from mlguard.errors import ParityError
from mlguard.protect.export import LightGraph, cause_of, light_graph
from mlguard.protect.modules.outputs import Flat

Free = dict[str, tuple[int, ...]]  # axes of inputs that may have any size
LOUD = ("torch", "onnxscript", "onnx_ir")  # loggers that print the model's graph


@dataclass(frozen=True)
class Converted:
    """A module as a graph.

    Attributes:
        graph: The graph; its weights are the module's own, beside it.
        free: Axes that may have any size, by input.
        notes: torch's messages about what it could not do.
    """

    graph: LightGraph
    free: Free
    notes: tuple[str, ...] = ()


def convert(
    module: Flat,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    wanted: Sequence[tuple[Free, Mapping[str, Tensor]]],
    opset: int,
) -> Converted:
    """Convert a module, with as many free axes as torch allows.

    Args:
        module: A module in eval mode, on the CPU.
        example: Its inputs, by name.
        outputs: Names of its outputs.
        wanted: Sets of axes to free, each with an example: the best first, then
            fallbacks.
        opset: The operator set.

    Raises:
        ParityError: torch cannot export the model.
    """
    notes: list[str] = []
    for free, shown in [*wanted, ({}, example)]:
        try:
            graph = _export(module, shown, outputs, free=free, opset=opset)
        except torch.onnx.OnnxExporterError as error:
            notes.append(cause_of(error))
            continue
        return Converted(graph, free, tuple(dict.fromkeys(notes)))
    try:
        graph = _traced(module, example, outputs, opset=opset)
    except Exception as error:
        notes.append(cause_of(error))
        said = "; ".join(dict.fromkeys(notes))
        raise ParityError(f"torch cannot export the model: {said}") from None
    return Converted(graph, {}, tuple(dict.fromkeys(notes)))


def _export(
    module: Flat,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    free: Free,
    opset: int,
) -> LightGraph:
    shapes = tuple(
        {axis: Dim.DYNAMIC for axis in free.get(name, ())} or None for name in example
    )
    with quiet():
        program = torch.onnx.export(
            module,
            tuple(example.values()),
            dynamo=True,
            opset_version=opset,
            input_names=list(example),
            output_names=list(outputs),
            dynamic_shapes={"tensors": shapes},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ParityError("torch gave no graph")
    return light_graph(program)


def _traced(
    module: nn.Module,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    opset: int,
) -> LightGraph:
    file = io.BytesIO()
    with quiet():
        torch.onnx.export(
            module,
            tuple(example.values()),
            file,  # type: ignore[arg-type]  # a file object works
            dynamo=False,
            opset_version=min(opset, TRACED_OPSET),
            input_names=list(example),
            output_names=list(outputs),
        )
    return LightGraph(onnx.load_model_from_string(file.getvalue()), [])


TRACED_OPSET = 17  # the last opset that torch's older exporter supports


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress torch's output while it exports: warnings, graphs, paths."""
    loggers = [logging.getLogger(name) for name in LOUD]
    levels = [logger.level for logger in loggers]
    said: Any = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
        warnings.simplefilter("ignore")  # torch's exporter warns about torch
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
