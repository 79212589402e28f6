"""Step 6 for any module: every weight under the key, whatever the architecture.

It needs only an example of the module's input: the module is run, exported by
torch.export and taken apart (mlguard.foreign). Before a bundle is written, it runs
beside the module, as its user will run it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlguard.bundle import write_bundle2
from mlguard.errors import BindingError, ParityError
from mlguard.files import refuse_existing
from mlguard.foreign import lift_model, model_of
from mlguard.keys import ModelKey, new_protection_id
from mlguard.protect.export import REFUSALS, cause_of
from mlguard.protect.modules.about import DETECTION, Answer, Pixels, about_module
from mlguard.protect.modules.convert import Free, convert
from mlguard.protect.modules.outputs import Flat, flatten, named_inputs
from mlguard.protect.modules.sizes import (
    Sizes,
    find_sizes,
    is_image,
    larger,
)
from mlguard.runtime import Session

OPSET = 20
# Share of an output's largest value: another summation order gives a tenth of it.
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}
USUAL_TOLERANCE = 1e-3
ROUNDING = 1e-6  # of the largest score: what float32 does to it
LEAST_SCORES = 2
MIN_AGREEMENT = 0.999  # share of an output's integers that are equal


@dataclass(frozen=True)
class BoundModule:
    """The result of binding a module.

    Attributes:
        path: The bundle.
        protection_id: The public identifier of the protected model.
        size_bytes: The size of the bundle.
        share: The share of covered bytes in all bytes of weights.
        sizes: The sizes of images that the bundle takes.
        outputs: Names of its outputs.
        difference: The largest difference from the module, as a share of the largest
            value of the output; NaN if nothing could be compared.
        notes: torch's messages about what it could not do.
    """

    path: Path
    protection_id: bytes
    size_bytes: int
    share: float
    sizes: Sizes
    outputs: tuple[str, ...]
    difference: float
    notes: tuple[str, ...] = field(default=())


def bind(
    module: nn.Module,
    key: ModelKey,
    out: Path,
    *,
    example: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    pixels: Pixels | None = None,
    answer: Answer | None = None,
    multiple: int | None = None,
    opset: int = OPSET,
) -> BoundModule:
    """Write any module as a bundle whose every weight is under the key.

    Args:
        module: A module on the CPU; it is not changed.
        key: The model key.
        out: The bundle to write; it must not exist yet.
        example: Its input: a tensor, several, or a dict of tensors by the parameter
            names of `forward`.
        pixels: How images become its input; without it, the bundle takes tensors.
        answer: What its output means; without it, the bundle returns tensors.
        multiple: The number of pixels that must divide the sides of images; 0 for one
            size only, None to determine it.
        opset: The operator set.

    Raises:
        OutputExists: Something is already at `out`.
        OutputError: There is no space, or the folder is not writable.
        BindingError: The module does not run on the example, or its output is not
            tensors; or the normalization of pixels is missing.
        ParityError: torch cannot export the module, or the bundle answers differently.
        ModelFileError: It has no weights, or exceeds a bundle's limits.
    """
    refuse_existing(out)
    given = named_inputs(module, example)
    training = module.training
    flat = Flat(module, list(given)).eval()
    try:
        return _bind(flat, key, out, given, (pixels, answer), multiple, opset)
    finally:
        module.train(training)


def _bind(
    flat: Flat,
    key: ModelKey,
    out: Path,
    given: Mapping[str, Tensor],
    said: tuple[Pixels | None, Answer | None],
    multiple: int | None,
    opset: int,
) -> BoundModule:
    outputs = _run(flat, given)
    sizes = _sizes(flat, given, multiple)
    wanted = _wanted(given, sizes)
    twice = _twice(flat, given)
    converted = convert(
        flat,
        given,
        list(outputs),
        wanted=[(free, twice) for free in wanted],
        opset=opset,
    )
    if sizes.free and converted.free != wanted[0]:
        sizes = Sizes(0, "torch.export could not leave the sizes free")
    about = about_module(given, outputs, sizes, pixels=said[0], answer=said[1])
    light = converted.graph
    lifted = lift_model(light.graph, name=str(out), held=light.weights)
    model = model_of(lifted, about, name=str(out))
    subkeys = key.for_model(new_protection_id())
    differences: list[float] = []

    def check(written: Path) -> None:
        session = Session.open(written, key, bare=True)
        for tensors in _shown(given, sizes, converted.free):
            expected = _run(flat, tensors)
            got = session.run({name: _array(one) for name, one in tensors.items()})
            differences.append(compare(expected, got))

    write_bundle2(out, model, subkeys, check=check)
    return BoundModule(
        path=out,
        protection_id=subkeys.protection_id,
        size_bytes=out.stat().st_size,
        share=lifted.share,
        sizes=sizes,
        outputs=tuple(outputs),
        difference=float(np.max(differences)),
        notes=converted.notes,
    )


@torch.no_grad()  # in inference mode, a module's cached tensors could not be exported
def _run(flat: Flat, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        return flatten(flat.run(*tensors.values()))
    except REFUSALS as refusal:
        shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in tensors.items())
        raise BindingError(
            f"the model does not run on the example ({shapes}): {cause_of(refusal)}"
        ) from None


def _sizes(flat: Flat, given: Mapping[str, Tensor], multiple: int | None) -> Sizes:
    if len(given) > 1 or not is_image(next(iter(given.values()))) or flat.as_list:
        return Sizes(0, "its other inputs prevent trying other sizes")
    if multiple is not None:
        return Sizes(multiple, "" if multiple else "a single size was requested")
    with torch.no_grad():
        return find_sizes(flat, next(iter(given.values())))


def _wanted(given: Mapping[str, Tensor], sizes: Sizes) -> list[Free]:
    """Return which axes to free: sizes and batch, otherwise the batch alone."""
    if any(one.dim() < 2 for one in given.values()):
        return []
    batch: Free = {name: (0,) for name in given}
    if not sizes.free:
        return [batch]
    (name, image), *_ = given.items()
    return [{name: (0, *range(2, image.dim()))}, batch]


def _twice(flat: Flat, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the example with two images; torch.export treats size 1 as constant."""
    if flat.as_list or any(one.dim() < 2 or len(one) != 1 for one in given.values()):
        return given
    both = {name: torch.cat([one, one]) for name, one in given.items()}
    try:
        _run(flat, both)
    except BindingError:
        return given
    return both


def _shown(
    given: Mapping[str, Tensor], sizes: Sizes, free: Free
) -> Iterator[Mapping[str, Tensor]]:
    """Return the inputs for module and bundle: the example, and other sizes."""
    yield given
    name, image = next(iter(given.items()))
    if sizes.free:
        yield from ({name: one} for one in larger(image, sizes.multiple))
    if free and all(len(one) > 1 for one in given.values()):
        yield {name: one[:1] for name, one in given.items()}


def compare(expected: Mapping[str, Tensor], got: Mapping[str, Any]) -> float:
    """Refuse outputs that differ from a module's.

    Args:
        expected: The outputs of the module, by name.
        got: The outputs of the bundle.

    Returns:
        The largest difference, as a share of the largest value of its output; 0 where
        there is nothing to compare.

    Raises:
        ParityError: An output has another shape, or differs by more than rounding.
    """
    worst = 0.0
    for name, one in expected.items():
        other = _tensor(got[name], one)
        if other.shape != one.shape:
            raise ParityError(
                f"output {name}: expected shape {tuple(one.shape)}, got "
                f"{tuple(other.shape)}{_tied(expected)}"
            )
        if one.numel() == 0:
            continue
        if not one.is_floating_point():
            agreement = float((one == other).double().mean())
            if agreement < MIN_AGREEMENT:
                raise ParityError(
                    f"output {name}: only {agreement:.3%} are equal{_tied(expected)}"
                )
            continue
        largest = float(one.double().abs().max())
        difference = float((one.double() - other.double()).abs().max())
        limit = TOLERANCE.get(one.dtype, USUAL_TOLERANCE) * largest
        if not difference <= limit:  # NaN must be refused too
            raise ParityError(
                f"output {name} differs from the module's by {difference:.1e}, limit "
                f"is {limit:.1e}{_tied(expected)}"
            )
        worst = max(worst, difference / largest if largest else 0.0)
    return worst


def _tied(outputs: Mapping[str, Tensor]) -> str:
    """Why two runs of a detector differ: its scores are equal but for rounding.

    Which boxes are kept, and in which order, hangs on the scores alone. Untrained
    weights give the same score to every box.
    """
    scores = outputs.get(DETECTION[-1])
    if scores is None or scores.dim() != 1 or len(scores) < LEAST_SCORES:
        return ""
    steps = scores.double().sort().values.diff()
    tied = int((steps <= ROUNDING * float(scores.abs().max())).sum())
    if tied < len(steps) / 2:
        return ""
    return (
        f"; {tied + 1} of {len(scores)} scores are equal but for rounding, which "
        "decides which boxes are kept: give the model its trained weights, or an "
        "example in which it finds something"
    )


def _array(tensor: Tensor) -> Any:
    """Return a tensor as a bundle takes it: for bfloat16, its bits."""
    plain = tensor.detach().contiguous()
    return (
        plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain
    ).numpy()


def _tensor(array: Any, like: Tensor) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(array))
    return found.view(torch.bfloat16) if like.dtype == torch.bfloat16 else found
