"""Any module under the key: whatever it gives, whatever size it takes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard.bundle import glimpse_bundle
from mlguard.errors import BindingError, OutputExists, ParityError, WrongKey
from mlguard.protect import Answer, Pixels, bind, bind_program
from mlguard.protect.modules import Sizes, find_sizes
from mlguard.protect.modules.bind import compare
from mlguard.runtime import Session
from tests.runs import KEY, OTHER_KEY

CLASSES = ("sky", "grass", "tiger")
PIXELS = Pixels(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
IMAGES = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """A convolution and what is made of it."""

    def __init__(self, *, channels: int = 3, kind: str = "tensor") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.first = nn.Conv2d(channels, 16, 3, padding=1)
        self.last = nn.Conv2d(16, len(CLASSES), 1)

    def forward(self, x: Tensor) -> object:
        logits = self.last(self.first(x).relu())
        mean = logits.mean((2, 3))
        if self.kind == "dict":
            return {"out": logits, "aux": [mean, None, {"deep": mean + 1}]}
        if self.kind == "tuple":
            return logits, mean
        if self.kind == "dataclass":
            return Answers(logits, mean)
        if self.kind == "words":
            return {"out": logits, "said": "a word"}
        return logits


@dataclasses.dataclass
class Answers:
    logits: Tensor
    loss: Tensor | None = None


class Fixed(Small):
    def forward(self, x: Tensor) -> object:
        assert x.shape[-1] == 32, f"expected images of 32 pixels, got {x.shape[-1]}"
        return super().forward(x)


class Eights(nn.Module):
    """Halves three times and joins, as a U-Net does: sides are multiples of 8."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.down = nn.ModuleList(
            [convolution(size, 4, 3, stride=2, padding=1) for size in (2, 4, 4)]
        )
        self.last = convolution(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        small = x
        for layer in self.down:
            small = layer(small).relu()
        large = nn.functional.interpolate(small, scale_factor=8.0)
        return self.last(torch.cat([x, large], 1))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("tensor", ["output"]),
        ("tuple", ["0", "1"]),
        ("dict", ["out", "aux.0", "aux.2.deep"]),
        ("dataclass", ["logits", "loss"]),
    ],
)
def test_whatever_a_module_gives_has_a_name(
    tmp_path: Path, kind: str, names: list[str]
) -> None:
    module, out = Small(kind=kind), tmp_path / "small.mlgb"
    done = bind(module, KEY, out, example=IMAGES)
    assert list(done.outputs) == names
    assert done.sizes == Sizes(1)
    images = torch.rand(2, 3, 17, 23)
    session = Session.open(out, KEY)
    got = session.run({"x": images.numpy()})
    with torch.no_grad():
        expected = Small().last(module.first(images).relu())
    np.testing.assert_allclose(got[names[0]], expected.numpy(), atol=1e-5)
    with pytest.raises(WrongKey):
        Session.open(out, OTHER_KEY)


def test_no_weight_lies_in_the_file(tmp_path: Path) -> None:
    module, out = Small(), tmp_path / "small.mlgb"
    done = bind(module, KEY, out, example=IMAGES)
    content = out.read_bytes()
    parts = [one.detach().numpy().tobytes() for one in module.parameters()]
    assert [len(part) for part in parts if part in content] == []
    assert done.share > 0.9
    assert glimpse_bundle(out).manifest.coverage.share == 1


def test_images_and_classes_are_what_the_owner_says(tmp_path: Path) -> None:
    module, out = Small(), tmp_path / "small.mlgb"
    answer = Answer("segmentation", CLASSES)
    bind(module, KEY, out, example=IMAGES, pixels=PIXELS, answer=answer)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 28), np.uint8)
    mean, std = (
        torch.tensor(one).view(1, 3, 1, 1) for one in (PIXELS.mean, PIXELS.std)
    )
    with torch.no_grad():
        expected = module((torch.from_numpy(images) / 255 - mean) / std).argmax(1)
    got = Session.open(out, KEY).predict(images)
    assert (got == expected.numpy()).mean() > 0.999


def test_normalization_is_asked_for_and_never_assumed(tmp_path: Path) -> None:
    answer = Answer("segmentation", CLASSES)
    with pytest.raises(
        BindingError, match="normalization of the pixels of a segment"
    ) as r:
        bind(Small(), KEY, tmp_path / "x.mlgb", example=IMAGES, answer=answer)
    assert "pixels=Pixels(mean=…, std=…)" in r.value.hint
    few = Pixels(mean=(0.5,), std=(0.5,))
    with pytest.raises(BindingError, match="one number for each channel"):
        bind(Small(), KEY, tmp_path / "x.mlgb", example=IMAGES, pixels=few)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_and_five_channels(tmp_path: Path) -> None:
    module, example = Small(channels=5).half(), torch.rand(2, 5, 16, 16).half()
    done = bind(module, KEY, tmp_path / "small.mlgb", example=example)
    kinds = {one.datatype for one in glimpse_bundle(done.path).manifest.inputs}
    assert kinds == {"FP16"}


def test_a_fixed_size_is_found_out_and_said(tmp_path: Path) -> None:
    done = bind(Fixed(), KEY, tmp_path / "fixed.mlgb", example=torch.rand(1, 3, 32, 32))
    assert not done.sizes.free
    assert "expected images of 32 pixels, got 3" in done.sizes.why
    (given,) = glimpse_bundle(done.path).manifest.inputs
    assert given.shape == (-1, 3, 32, 32)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_multiple_of_a_size_is_found_out_and_kept(
    tmp_path: Path, dims: int
) -> None:
    example = torch.rand(1, 2, *[16] * dims)
    pixels = Pixels((0.5, 0.5), (0.5, 0.5), colours="channels")
    answer, out = Answer("segmentation", ("no", "yes")), tmp_path / "e.mlgb"
    done = bind(Eights(dims), KEY, out, example=example, pixels=pixels, answer=answer)
    assert done.sizes.multiple == 8
    sides = [19, 27, 22][:dims]
    images = np.random.default_rng(0).integers(0, 256, (1, 2, *sides), np.uint8)
    assert Session.open(out, KEY).predict(images).shape == (1, *sides)


def test_a_size_that_is_taken_everywhere_is_a_multiple_of_one() -> None:
    assert find_sizes(Small(), IMAGES) == Sizes(1)
    with torch.no_grad():
        assert find_sizes(Eights(), torch.rand(1, 2, 16, 16)).multiple == 8


def test_several_inputs_go_in_by_their_names(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(8, 8))

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left @ self.weight + right

    example = {"left": torch.rand(2, 8), "right": torch.rand(2, 8)}
    out = tmp_path / "sum.mlgb"
    bind(Sum(), KEY, out, example=example)
    given = {name: one.numpy() for name, one in example.items()}
    assert Session.open(out, KEY).run(given)["output"].shape == (2, 8)


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = Small().train()
    before = {name: one.clone() for name, one in module.state_dict().items()}
    bind(module, KEY, tmp_path / "small.mlgb", example=IMAGES)
    assert module.training
    assert all(torch.equal(before[n], one) for n, one in module.state_dict().items())


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [
        (Small(), torch.rand(1, 4, 8, 8), r"does not run on the example \(x \(1, 4, 8"),
        (
            Small(kind="words"),
            IMAGES,
            "said is a str, but a graph returns only tensors",
        ),
        (Small(), "an image", "expected an example of the model's input"),
        (Small(), (IMAGES, IMAGES), "takes 1 tensors by name, got 2"),
    ],
)
def test_what_cannot_be_bound_is_refused_with_its_cause(
    tmp_path: Path, module: nn.Module, example: object, words: str
) -> None:
    with pytest.raises(BindingError, match=words):
        bind(module, KEY, tmp_path / "x.mlgb", example=example)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_says_why(tmp_path: Path) -> None:
    class Odd(Small):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvals(self.first(x)[:, :3, :3, :3]).real

    with pytest.raises(ParityError, match=r"cannot export the model: .*eig"):
        bind(Odd(), KEY, tmp_path / "x.mlgb", example=IMAGES)


def test_a_bundle_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of parity: it can fail, and then nothing is left."""
    module = Small()

    def spoiled(*given: object, **options: object) -> object:
        made = convert(*given, **options)
        with torch.no_grad():
            module.last.bias += 1
        return made

    convert = binding_module().convert
    monkeypatch.setattr(binding_module(), "convert", spoiled)
    with pytest.raises(ParityError, match="output output differs from the module's"):
        bind(module, KEY, tmp_path / "x.mlgb", example=IMAGES)
    assert list(tmp_path.iterdir()) == []


def test_boxes_that_rounding_chooses_are_refused_with_that_cause() -> None:
    """What an untrained SSD-Lite gives: every score the same, other boxes kept."""
    scores = torch.full((9,), 1 / 3) + torch.linspace(0, 3e-8, 9)
    expected = {"boxes": torch.rand(9, 4), "scores": scores}
    got = {"boxes": torch.rand(8, 4).numpy(), "scores": scores[:8].numpy()}
    with pytest.raises(ParityError, match="9 of 9 scores are equal but for rounding"):
        compare(expected, got)
    apart = expected | {"scores": torch.linspace(0.1, 0.9, 9)}
    with pytest.raises(ParityError, match=r"got \(8, 4\)$"):
        compare(apart, got)


class Table(nn.Module):
    """One tensor of more than 2 GiB, and little to do with it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros((1 << 21) + 9, 1024, dtype=torch.int8))
        self.rows[-1] = torch.arange(1024).remainder(100).to(torch.int8)

    def forward(self, number: Tensor) -> Tensor:
        return self.rows[number]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["module", "program"])
def test_a_module_may_have_more_than_two_gibibytes(tmp_path: Path, kind: str) -> None:
    module, last = Table().eval(), torch.tensor([len(Table().rows) - 1])
    out = tmp_path / "x.mlgb"
    if kind == "module":
        done = bind(module, KEY, out, example=last)
    else:
        program = torch.export.export(module, (last,))
        torch.export.save(program, tmp_path / "x.pt2")
        done = bind_program(tmp_path / "x.pt2", KEY, out)
    assert done.size_bytes > 1 << 31
    session = Session.open(out, KEY)
    (answer,) = session.run({session.inputs[0].name: last.numpy()}).values()
    assert np.array_equal(answer, module(last).numpy())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.mlgb").write_text("mine")
    with pytest.raises(OutputExists):
        bind(Small(), KEY, tmp_path / "x.mlgb", example=IMAGES)


def binding_module() -> object:
    import sys

    return sys.modules[bind.__module__]
