"""Exporting a run: the bundle computes what the model computes, or is not written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from mlguard.bundle import read_bundle
from mlguard.cli import export as command
from mlguard.errors import (
    BundleError,
    MalformedRun,
    OutputError,
    OutputExists,
    ParityError,
    TamperedRun,
    WrongKey,
)
from mlguard.foreign import scrub
from mlguard.keys import ModelKey
from mlguard.models import Normalization, build_model
from mlguard.protect import run_folder
from mlguard.protect.export import bundle as export
from mlguard.protect.export import (
    bundle_model,
    check_parity,
    export_run,
    facts_of,
    light,
    parity,
)
from mlguard.protect.export import light as export_light
from mlguard.protect.key_work import keyed_transforms
from mlguard.recipe import Recipe, parse_recipe
from mlguard.runtime import Session
from mlguard.transforms import TransformSet, derive_transform
from tests.endless import ENDLESS, endless

KEY, OTHER_KEY = ModelKey(bytes(range(32))), ModelKey(bytes(32))
PROTECTION_ID = bytes(range(16))
PROTECTION = run_folder.Protection(PROTECTION_ID, KEY.key_id, "acme")
RECIPE = """
recipe = 1
[data]
kind = "shapes"
class_names = ["background", "disc", "square", "bar"]
size = [32, 32]
[transform]
method = "shf"
block_size = 4
[model]
name = "fcn_small"
[train]
epochs = 1
batch = 2
seed = 11
[export]
licence = "internal use"
"""


def recipe(*overrides: str) -> Recipe:
    return parse_recipe(RECIPE, name="test", overrides=overrides)


def transforms(*overrides: str) -> TransformSet:
    keyed = keyed_transforms(recipe(*overrides))
    return keyed.derive(KEY.for_model(PROTECTION_ID))


def finished(
    path: Path, *overrides: str, protection: run_folder.Protection | None = PROTECTION
) -> run_folder.Run:
    """A run folder as `protect` leaves it, of an untrained model."""
    path.mkdir()
    spec = recipe(*overrides)
    torch.manual_seed(0)
    model = build_model(spec.model, spec.data.classes)
    run_folder.write_setup(path, spec, protection)
    run_folder.write_model(path / run_folder.MODEL, model)
    fields = {"data": {"train_fingerprint": "cd" * 32}, "resumed": []}
    run_folder.write_json(path / run_folder.PROVENANCE, fields)
    if protection is not None:
        run_folder.write_proofs(path, protection, KEY)
    return run_folder.read_run(path)


class ProprietaryHead(nn.Module):
    """A user's own model, with names its owner would not publish."""

    def __init__(self) -> None:
        super().__init__()
        self.patented_stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.confidential_norm = nn.BatchNorm2d(8)
        self.undisclosed_scores = nn.Conv2d(8, 4, 1)
        self.auxiliary = nn.Conv2d(8, 4, 1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.confidential_norm(self.patented_stem(pixels)).relu()
        scores = self.undisclosed_scores(features)
        size = pixels.shape[-2:]
        logits = nn.functional.interpolate(scores, size=size, mode="bilinear")
        return {"out": logits, "aux": self.auxiliary(features)}


def own_model() -> nn.Module:
    torch.manual_seed(0)
    return ProprietaryHead().eval()


def own_bundle(tmp_path: Path, model: nn.Module, *overrides: str):
    facts = facts_of(run_folder.Run(tmp_path, recipe(*overrides), PROTECTION, {}))
    return bundle_model(
        model, facts, KEY, protection_id=PROTECTION_ID, name="own", sealed=False
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[run_folder.Run, Path]:
    folder = tmp_path_factory.mktemp("exported")
    done = finished(folder / "run")
    export_run(done, KEY, folder / "acme.mlgb")
    return done, folder / "acme.mlgb"


def test_the_manifest_says_what_the_run_says(
    exported: tuple[run_folder.Run, Path],
) -> None:
    manifest = read_bundle(exported[1]).manifest
    assert manifest.class_names == ("background", "disc", "square", "bar")
    assert manifest.transform.methods == ("shf",)
    assert manifest.licence == "internal use"
    assert (manifest.key_id, manifest.protection_id) == (
        KEY.key_id,
        PROTECTION_ID.hex(),
    )
    assert manifest.provenance.seed == 0  # says nothing
    assert manifest.provenance.data_fingerprint == "cd" * 32
    assert "torch" in manifest.provenance.versions


def test_the_bundle_predicts_what_the_run_predicts(
    exported: tuple[run_folder.Run, Path],
) -> None:
    done, path = exported
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 52), dtype=np.uint8)
    pixels = Normalization()(torch.from_numpy(done.transform(KEY).image.apply(images)))
    with torch.inference_mode():
        expected = done.load_model()(pixels).argmax(1).numpy()
    masks = Session.open(path, KEY).predict(images)
    assert (masks == expected).mean() >= 0.999
    assert len(np.unique(masks)) > 1


def test_another_key_is_refused_before_the_export(tmp_path: Path) -> None:
    done = finished(tmp_path / "run")
    words = f"protected with key {KEY.key_id}.*got key {OTHER_KEY.key_id}"
    with pytest.raises(WrongKey, match=words):
        export_run(done, OTHER_KEY, tmp_path / "acme.mlgb")
    assert not (tmp_path / "acme.mlgb").exists()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    done, out = finished(tmp_path / "run"), tmp_path / "acme.mlgb"
    out.write_text("precious")
    with pytest.raises(OutputExists, match=r"acme\.mlgb already exists"):
        export_run(done, KEY, out)
    assert out.read_text() == "precious"


def test_a_missing_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    done = finished(tmp_path / "run")
    with pytest.raises(OutputError, match="there is no folder"):
        export_run(done, KEY, tmp_path / "none" / "acme.mlgb")


def test_a_plain_run_has_no_key_to_bind(tmp_path: Path) -> None:
    done = finished(tmp_path / "run", protection=None)
    with pytest.raises(MalformedRun, match="is a baseline run and needs no key"):
        export_run(done, KEY, tmp_path / "acme.mlgb")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    done = finished(tmp_path / "run")
    (tmp_path / "run" / run_folder.MODEL).write_bytes(b"damaged")
    with pytest.raises(TamperedRun, match="is not what the holder of the key left"):
        export_run(done, KEY, tmp_path / "acme.mlgb")


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize(
    "name", [run_folder.RECIPE, run_folder.PROTECTION, run_folder.PROVENANCE]
)
def test_a_file_without_an_end_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    finished(tmp_path / "run")
    endless(tmp_path / "run" / name, kind)
    with pytest.raises(MalformedRun, match="run"):
        run_folder.read_run(tmp_path / "run")


@pytest.mark.parametrize("fingerprint", [7, None, ["cd"], "a\x1bb"])
def test_a_fingerprint_that_we_do_not_write_is_refused(
    tmp_path: Path, fingerprint: object
) -> None:
    done = finished(tmp_path / "run")
    fields = {"data": {"train_fingerprint": fingerprint}, "resumed": []}
    run_folder.write_json(done.path / run_folder.PROVENANCE, fields)
    run_folder.write_proofs(done.path, PROTECTION, KEY)
    with pytest.raises(MalformedRun, match=r"provenance\.json does not fit .*finger"):
        export_run(run_folder.read_run(done.path), KEY, tmp_path / "acme.mlgb")


def test_facts_that_no_manifest_holds_are_refused(tmp_path: Path) -> None:
    given = recipe("data.class_names=['a', 'b']")
    data = given.data.model_copy(update={"class_names": ("a\x1b", "b")})
    odd = run_folder.Run(
        tmp_path, given.model_copy(update={"data": data}), PROTECTION, {}
    )
    with pytest.raises(MalformedRun, match="class_names"):
        facts_of(odd)


def without_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, check=None) -> None:
    """Let `export_run` write some bundle; `check` runs where parity would."""
    bundle = own_bundle(tmp_path, own_model())
    monkeypatch.setattr(export, "bundle_graph", lambda *_, **__: bundle)
    report = parity.ParityReport(
        shapes=(), unit="pixels", agreement=1, difference=0, largest_logit=1
    )

    def checked(*_: object) -> parity.ParityReport:
        if check is not None:
            check()
        return report

    monkeypatch.setattr(export, "compare_logits", checked)


def test_what_appears_during_the_export_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, out = finished(tmp_path / "run"), tmp_path / "acme.mlgb"
    without_work(monkeypatch, tmp_path, lambda: out.write_text("precious"))
    with pytest.raises(OutputExists, match=r"acme\.mlgb already exists"):
        export_run(done, KEY, out)
    assert out.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"run", "acme.mlgb"}


def test_a_full_disk_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = finished(tmp_path / "run")
    without_work(monkeypatch, tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"acme\.mlgb: No space left"):
        export_run(done, KEY, tmp_path / "acme.mlgb")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("method", ["np", "ffx", '["np", "shf", "ffx"]'])
def test_parity_holds_for_every_transform(tmp_path: Path, method: str) -> None:
    settings = (f"transform.method={method}", "transform.block_size=16")
    bundle = own_bundle(tmp_path, own_model(), *settings)
    transform = transforms(*settings)
    report = check_parity(bundle, KEY, own_model(), transform, Normalization())
    assert report.shapes == ((1, 3, 64, 96), (2, 3, 128, 80), (1, 3, 65, 97))
    assert report.agreement == 1.0
    assert report.difference < 1e-5


def test_a_graph_of_other_weights_is_refused(tmp_path: Path) -> None:
    """The twin of the test above: parity can fail."""
    bundle = own_bundle(tmp_path, own_model())
    transform = transforms()
    changed = own_model()
    with torch.no_grad():
        changed.patented_stem.weight[0, 0, 1, 1] += 0.1
    with pytest.raises(
        ParityError, match=r"the exported graph differs .* logits differ"
    ):
        check_parity(bundle, KEY, changed, transform, Normalization())


def test_a_bundle_under_another_transform_is_refused(tmp_path: Path) -> None:
    bundle = own_bundle(tmp_path, own_model())
    subkeys = OTHER_KEY.for_model(PROTECTION_ID)
    other = TransformSet(derive_transform(("shf",), subkeys, 4))
    with pytest.raises(ParityError, match="have the same class"):
        check_parity(bundle, KEY, own_model(), other, Normalization())


def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    broken = own_model()
    with torch.no_grad():
        broken.undisclosed_scores.bias[0] = float("nan")
    bundle = own_bundle(tmp_path, broken)
    transform = transforms()
    with pytest.raises(ParityError, match="logits differ by nan"):
        check_parity(bundle, KEY, broken, transform, Normalization())


def test_no_number_at_one_size_only_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = parity._torch_logits

    def broken_at_odd_sizes(*arguments) -> np.ndarray:
        logits = real(*arguments)
        return logits * np.float32("nan") if logits.shape[-1] == 97 else logits

    monkeypatch.setattr(parity, "_torch_logits", broken_at_odd_sizes)
    bundle = own_bundle(tmp_path, own_model())
    transform = transforms()
    with pytest.raises(ParityError, match="logits differ by nan"):
        check_parity(bundle, KEY, own_model(), transform, Normalization())


def test_a_failed_comparison_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "MAX_DIFFERENCE", -1.0)  # nothing is this exact
    done = finished(tmp_path / "run")
    with pytest.raises(ParityError, match="logits differ"):
        export_run(done, KEY, tmp_path / "acme.mlgb")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_torch_cannot_export_is_refused(tmp_path: Path) -> None:
    class DataDependent(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels * 2 if pixels.sum() > 0 else pixels

    with pytest.raises(ParityError, match="torch cannot export the model"):
        own_bundle(tmp_path, DataDependent())


def test_what_is_larger_than_protocol_buffers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by a smaller limit: a graph of 2 GiB would take its time."""

    monkeypatch.setattr(light, "MAX_BYTES", 1000)
    with pytest.raises(BundleError, match="larger than 2 GiB"):
        own_bundle(tmp_path, own_model())


def test_a_graph_that_is_no_valid_onnx_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(model: ModelProto) -> ModelProto:
        plain = scrub(model)
        plain.graph.node[0].op_type = "Unheard"
        return plain

    monkeypatch.setattr(export_light, "scrub", spoiled)
    with pytest.raises(ParityError, match="exported invalid ONNX: No Op regi"):
        own_bundle(tmp_path, own_model())


@pytest.mark.parametrize("opset", [18, 23])
def test_every_opset_of_a_recipe_can_be_exported(tmp_path: Path, opset: int) -> None:
    bundle = own_bundle(tmp_path, own_model(), f"export.opset={opset}")
    assert bundle.manifest.opset == opset
    transform = transforms()
    check_parity(bundle, KEY, own_model(), transform, Normalization())


def test_nothing_of_the_key_or_the_source_is_in_the_file(tmp_path: Path) -> None:
    content = own_bundle(tmp_path, own_model()).to_bytes()
    order = transforms().slots()["shf.order"]
    secrets = [KEY.reveal(), *(order.astype(kind).tobytes() for kind in ("<i8", "u1"))]
    words = "Proprietary patented confidential undisclosed auxiliary torch.nn aten"
    secrets += [word.encode() for word in words.split()]
    secrets += [os.getcwd().encode(), b'File "', b".py", b"pkg.torch", b"interpolate"]
    assert [secret for secret in secrets if secret in content] == []


def test_a_model_of_a_recipe_is_exported(tmp_path: Path) -> None:
    done = finished(tmp_path / "run", "model.name=fcn_patch_small")
    report = export_run(done, KEY, tmp_path / "acme.mlgb")
    assert report.agreement >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "fcn_mobilenet_v2",
        "fcn_resnet50",
        "deeplabv3_resnet50",
        "deeplabv3_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large",
        "fcn_convnext_tiny",
        "upernet_swin_t",
        "setr_vit_b_16",
    ],
)
def test_every_architecture_is_exported(tmp_path: Path, name: str) -> None:
    done = finished(tmp_path / "run", f"model.name={name}")
    report = export_run(done, KEY, tmp_path / "acme.mlgb")
    assert report.agreement >= 0.999


def test_the_command_asks_for_the_key_that_the_run_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    @contextmanager
    def open_model_key(name: str, *_: object, key_id: str) -> Iterator[Mock]:
        assert key_id == KEY.key_id
        asked.append(name)
        yield Mock(key=KEY)

    monkeypatch.setattr(command, "open_model_key", open_model_key)
    finished(tmp_path / "run")
    command.export(tmp_path / "run", tmp_path / "acme.mlgb")
    assert asked == ["acme"]
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'acme.mlgb'}  ")
    assert "sealed" in out.splitlines()[0]
    assert "parity: 100.000% of pixels have the same class" in out
    assert err == ""
    with pytest.raises(OutputExists, match="already exists"):
        command.export(tmp_path / "run", tmp_path / "acme.mlgb")
    assert asked == ["acme"]  # refused before a passphrase is asked for


def test_a_bundle_is_sealed_unless_its_recipe_or_the_user_says_otherwise(
    tmp_path: Path,
) -> None:
    usual, plain = (
        finished(tmp_path / "a"),
        finished(tmp_path / "b", "export.seal=false"),
    )
    cases = [(usual, None), (usual, False), (plain, None), (plain, True)]
    found = []
    for number, (done, sealed) in enumerate(cases):
        out = tmp_path / f"{number}.mlgb"
        export_run(done, KEY, out, sealed=sealed)
        found.append(read_bundle(out).sealed)
    assert found == [True, False, False, True]


def test_no_weight_of_a_run_is_in_its_sealed_bundle(
    exported: tuple[run_folder.Run, Path], tmp_path: Path
) -> None:
    done, path = exported
    weights = [
        tensor.numpy().tobytes()[:64]
        for tensor in done.load_model().state_dict().values()
        if tensor.is_floating_point() and len(tensor.unique()) > 8
    ]
    assert len(weights) > 3
    assert [one for one in weights if one in path.read_bytes()] == []
    export_run(done, KEY, tmp_path / "open.mlgb", sealed=False)
    content = (tmp_path / "open.mlgb").read_bytes()
    assert any(one in content for one in weights)


def test_the_command_says_when_a_bundle_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def open_model_key(*_: object, key_id: str) -> Iterator[Mock]:
        yield Mock(key=KEY)

    monkeypatch.setattr(command, "open_model_key", open_model_key)
    finished(tmp_path / "run")
    command.export(tmp_path / "run", tmp_path / "acme.mlgb", seal=False)
    assert (
        "not sealed: the file holds the weights in the clear" in capsys.readouterr().out
    )
    assert not read_bundle(tmp_path / "acme.mlgb").sealed
