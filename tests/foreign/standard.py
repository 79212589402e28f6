"""The test suite of the ONNX standard, from the onnx package: models and inputs."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, load, load_tensor, numpy_helper
from onnx.backend.test import loader
from onnx.backend.test.case import node as node_cases
from onnx.backend.test.case.model import collect_testcases as model_cases

# Types that onnxruntime's arrays do not have, by ml_dtypes' names: their bytes instead.
BYTES = {"bfloat16": "u2"} | dict.fromkeys(
    ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), "u1"
)


@dataclass(frozen=True)
class Case:
    """A model of the suite with its first inputs."""

    name: str
    kind: str
    model: ModelProto
    values: dict[str, Any]

    @property
    def feeds(self) -> dict[str, Any]:
        """The inputs as onnxruntime takes them."""
        return {name: plain(value) for name, value in self.values.items()}


def cases() -> Iterator[Case]:
    """All cases: node cases, then models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy, where the reference divides by zero
        made = [*node_cases.collect_testcases(None), *model_cases()]
    for case in made:
        if case.kind != "real" and case.data_sets:
            yield _case(case.name, case.kind, case.model, case.data_sets[0][0])
    for kind in ("pytorch-converted", "pytorch-operator", "simple"):
        yield from _from_files(kind)
    yield from _light()


def _from_files(kind: str) -> Iterator[Case]:
    for case in loader.load_model_tests(kind=kind):
        folder = Path(case.model_dir)
        files = sorted((folder / "test_data_set_0").glob("input_*.pb"))
        model = load(folder / "model.onnx")
        values = [_read(path) for path in files]
        if None not in [type(v) for v in values]:
            yield _case(case.name, kind, model, values)


def _light() -> Iterator[Case]:
    folder = Path(loader.DATA_DIR) / "light"
    for path in sorted(folder.glob("*.onnx")):
        model = load(path)
        held = {tensor.name for tensor in model.graph.initializer}
        (value,) = (v for v in model.graph.input if v.name not in held)
        shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        yield Case(path.stem, "light", model, {value.name: image})


def _read(path: Path) -> Any:
    return load_tensor(path)


def _case(name: str, kind: str, model: ModelProto, values: Any) -> Case:
    held = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input]
    if len(names) != len(values):
        names = [name for name in names if name not in held]
    return Case(name, kind, model, dict(zip(names, values, strict=False)))


def plain(value: Any) -> Any:
    """An input as onnxruntime takes it."""
    if isinstance(value, TensorProto):
        if value.data_type == TensorProto.STRING:
            return numpy_helper.to_array(value)
        return plain(numpy_helper.to_array(value))
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.name in BYTES:
        return array.view(BYTES[array.dtype.name])
    return array


def with_inputs_held(case: Case) -> Case | None:
    """The same model with every input but the first turned into an initializer."""
    model = ModelProto()
    model.CopyFrom(case.model)
    others = [v for v in model.graph.input if v.name in list(case.values)[1:]]
    held = {v.name: _tensor(v.name, case.values[v.name]) for v in others}
    if not held or None in held.values():
        return None
    for value in others:
        model.graph.initializer.append(held[value.name])
        model.graph.input.remove(value)
    model.ir_version = max(4, model.ir_version)
    left = {name: v for name, v in case.values.items() if name not in held}
    return Case(case.name, case.kind, model, left)


def _tensor(name: str, value: Any) -> TensorProto | None:
    """None of a sequence, or of an optional: initializers are tensors."""
    if isinstance(value, TensorProto):
        tensor = TensorProto()
        tensor.CopyFrom(value)
        tensor.name = name
        return tensor
    if isinstance(value, (list, tuple)) or value is None:
        return None
    return numpy_helper.from_array(np.asarray(value), name)
