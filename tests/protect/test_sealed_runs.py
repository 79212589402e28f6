"""The method `weights` in a run: nothing plain on disk, the plain model in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlguard.bundle import glimpse_bundle
from mlguard.errors import (
    BindingError,
    MalformedRun,
    RecipeError,
    RunError,
    TamperedRun,
    WrongKey,
)
from mlguard.models import NO_KEY, keyed
from mlguard.protect import (
    Run,
    bind_model,
    bound_recipe,
    read_plain,
    read_run,
    rebind_run,
)
from mlguard.protect import run_folder as folder
from mlguard.protect.export import export_run
from mlguard.protect.training import Epoch, Step
from mlguard.recipe import parse_recipe
from mlguard.runtime import Session
from tests.protect.test_bind import apart, bound, images, logits, plain_run
from tests.runs import KEY, OTHER_KEY, small_baseline, small_run

LAYERS = ("stages.1.branch.2", "stages.2")
WAYS: dict[str, dict] = {
    "weights": {"methods": ("weights",)},
    "orthogonal, weights": {"methods": ("orthogonal", "weights")},
    "channels, weights": {"methods": ("channels", "weights"), "layers": LAYERS},
}


def plain_bytes(run: Run) -> list[bytes]:
    """What would be found in a file that holds a weight as it is."""
    tensors = run.load_model().state_dict().values()
    return [one.numpy().tobytes() for one in tensors if one.numel() > 8]


def found_in(path: Path, wanted: list[bytes]) -> list[str]:
    files = [one for one in path.rglob("*") if one.is_file()]
    return [one.name for one in files for part in wanted if part in one.read_bytes()]


@pytest.mark.parametrize("way", WAYS)
def test_a_sealed_run_gives_the_plain_logits_and_a_bundle(
    tmp_path: Path, way: str
) -> None:
    path = plain_run(tmp_path / "plain")
    run = bound(path, tmp_path / "bound", **WAYS[way]).run
    assert found_in(tmp_path / "bound", plain_bytes(read_run(path))) == []
    opened, pictures = read_run(tmp_path / "bound").unlocked(KEY), images(32, 64)
    assert found_in(tmp_path / "bound", plain_bytes(opened)) == []
    expected = logits(read_run(path), NO_KEY, pictures)
    condition = keyed(opened.transform(KEY))
    assert apart(logits(opened, condition, pictures), expected) < 1e-4
    report = export_run(run, KEY, tmp_path / "acme.mlgb")
    assert report.agreement == 1
    manifest = glimpse_bundle(tmp_path / "acme.mlgb").manifest
    assert manifest.format == "mlguard.bundle/2"
    assert manifest.coverage.share > 0.99
    got = Session.open(tmp_path / "acme.mlgb", KEY).logits(pictures)
    assert apart(torch.from_numpy(np.array(got)), expected) < 1e-4
    with pytest.raises(WrongKey):
        Session.open(tmp_path / "acme.mlgb", OTHER_KEY)


def test_an_unsealed_run_holds_its_weights(tmp_path: Path) -> None:
    """The twin: what is looked for above is there without the method."""
    path = plain_run(tmp_path / "plain")
    assert found_in(path, plain_bytes(read_run(path)))


def test_weights_alone_change_no_bit(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    run = bound(path, tmp_path / "bound", methods=("weights",)).run.unlocked(KEY)
    plain = read_run(path).load_model().state_dict()
    assert all(
        torch.equal(value, plain[name])
        for name, value in run.load_model().state_dict().items()
    )


def test_the_twin_of_a_sealed_run_is_sealed_and_opens_with_the_key(
    tmp_path: Path,
) -> None:
    path = plain_run(tmp_path / "plain")
    run = bound(path, tmp_path / "bound", methods=("weights",)).run
    with pytest.raises(MalformedRun, match="is sealed, and its key was not given"):
        run.baseline().load_model()
    twin, pictures = run.baseline(KEY), images(32, 32)
    expected = logits(read_run(path), NO_KEY, pictures)
    assert torch.equal(logits(twin, NO_KEY, pictures), expected)


def test_sealed_weights_are_not_read_without_the_key(tmp_path: Path) -> None:
    run = bound(plain_run(tmp_path / "p"), tmp_path / "b", methods=("weights",)).run
    with pytest.raises(MalformedRun, match="is sealed, and its key was not given"):
        run.load_model()
    with pytest.raises(WrongKey):
        run.unlocked(OTHER_KEY)


def test_two_sealed_files_of_one_model_have_nothing_in_common(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    one, other = (
        bound(path, tmp_path / name, methods=("weights",)).run.weights.read_bytes()
        for name in ("one", "other")
    )
    tail = len(one) // 2
    assert len(one) == len(other)
    same = np.frombuffer(one[tail:], np.uint8) == np.frombuffer(other[tail:], np.uint8)
    assert same.mean() < 0.05  # 1 of 256 by chance


def test_one_flipped_bit_is_refused(tmp_path: Path) -> None:
    run = bound(plain_run(tmp_path / "p"), tmp_path / "b", methods=("weights",)).run
    data = bytearray(run.weights.read_bytes())
    data[-1] ^= 1
    run.weights.write_bytes(data)
    with pytest.raises(TamperedRun):
        read_run(run.path).unlocked(KEY)


def test_a_sealed_run_is_rebound(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    first = bound(path, tmp_path / "bound", **WAYS["channels, weights"]).run
    done = rebind_run(first, KEY, OTHER_KEY, tmp_path / "again", key_name="other")
    run, pictures = done.run.unlocked(OTHER_KEY), images(32, 32)
    assert found_in(run.path, plain_bytes(run)) == []
    expected = logits(read_run(path), NO_KEY, pictures)
    condition = keyed(run.transform(OTHER_KEY))
    assert apart(logits(run, condition, pictures), expected) < 1e-4


def test_a_sealed_run_is_not_exported_without_a_seal(tmp_path: Path) -> None:
    run = bound(plain_run(tmp_path / "p"), tmp_path / "b", methods=("weights",)).run
    with pytest.raises(RunError, match="seals every weight"):
        export_run(run, KEY, tmp_path / "open.mlgb", sealed=False)
    assert not (tmp_path / "open.mlgb").exists()


def test_a_killed_bind_leaves_nothing_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the hidden folder at the last moment before it gets its name."""
    from mlguard.protect.binding import bind as binding

    path, seen = plain_run(tmp_path / "plain"), []

    def killed(whole: Path, out: Path) -> None:
        seen.append((oct(whole.stat().st_mode & 0o777), found_in(whole, plain)))
        raise KeyboardInterrupt

    plain = plain_bytes(read_run(path))
    monkeypatch.setattr(binding, "_put", killed)
    with pytest.raises(KeyboardInterrupt):
        bound(path, tmp_path / "bound", methods=("weights",))
    assert seen == [("0o700", [])]
    assert [one.name for one in tmp_path.iterdir()] == ["plain"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ('["weights", "shf"]', "weights seals the result of the other methods"),
        ('["weights", "weights"]', "expected one or more different methods"),
    ],
)
def test_recipes_that_seal_before_the_end_are_refused(
    tmp_path: Path, method: str, words: str
) -> None:
    text = (plain_run(tmp_path / "p") / folder.RECIPE).read_text()
    with pytest.raises(RecipeError, match=words):
        parse_recipe(text, name="r", overrides=[f"transform.method={method}"])


def test_weights_need_no_block_size(tmp_path: Path) -> None:
    text = (plain_run(tmp_path / "p") / folder.RECIPE).read_text()
    recipe = parse_recipe(text, name="r", overrides=["transform.method=weights"])
    assert recipe.transform.seals
    assert recipe.transform.image_methods == ()
    assert read_plain(tmp_path / "p").recipe.transform.seals is False


METHOD = 'transform.method=["shf", "weights"]'


def test_training_under_weights_leaves_nothing_plain_at_any_moment(
    tmp_path: Path,
) -> None:
    class Seen(Exception):
        pass

    def stop(event: Step | Epoch) -> None:
        if isinstance(event, Epoch):
            raise Seen

    sealed, open_ = tmp_path / "sealed", tmp_path / "open"
    for path, keep in ((sealed, False), (open_, True)):
        with pytest.raises(Seen):
            small_run(path, METHOD, watch=stop, keep_plain=keep)
    # The header of a safetensors file names the tensors.
    wanted = [b"classifier.2.weight"]
    assert found_in(sealed, wanted) == []
    assert sorted(found_in(open_, wanted)) == ["best.kept", "checkpoint.kept"]


def test_sealed_run_is_resumed_and_its_twin_is_sealed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run = small_run(path, METHOD)
    twin = small_baseline(path / "baseline", METHOD)
    opened = run.unlocked(KEY)
    for one in (opened, run.baseline(KEY)):
        assert one is not None
        assert found_in(path, plain_bytes(one)) == []
    with pytest.raises(MalformedRun, match="is sealed, and its key was not given"):
        twin.load_model()


def test_plain_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", METHOD, keep_plain=True)
    assert found_in(run.path, plain_bytes(run)) != []
    plain = read_plain(plain_run(tmp_path / "plain"))
    recipe = bound_recipe(plain, methods=["weights"])
    done = bind_model(
        plain, recipe, KEY, tmp_path / "bound", key_name="acme", keep_plain=True
    )
    assert found_in(done.run.path, plain_bytes(done.run)) != []


class Branching(nn.Module):
    """What torch.fx cannot trace: it looks at values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layer(pixels if pixels.mean() > 0 else -pixels)


def test_a_model_that_cannot_be_traced_is_sealed_all_the_same(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain", build=Branching)
    run = bound(path, tmp_path / "bound", build=Branching, methods=("weights",)).run
    expected = logits(read_run(path, build=Branching), NO_KEY, images(32, 32))
    got = logits(run.unlocked(KEY), NO_KEY, images(32, 32))
    assert torch.equal(got, expected)
    with pytest.raises(BindingError, match=r"torch\.fx cannot trace the model"):
        bound(
            path,
            tmp_path / "other",
            build=Branching,
            methods=("channels", "weights"),
            layers=("layer",),
        )
