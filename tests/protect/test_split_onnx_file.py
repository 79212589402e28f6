"""A split model whose public half is an ONNX file: trained, exported, run."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mlguard.bundle import glimpse_bundle
from mlguard.errors import MlguardError, ModelFileError, RunError, WeightsError
from mlguard.models import NO_KEY, normalization_of, output_of
from mlguard.models.split import OnnxBackbone
from mlguard.protect import DataFolder, Job
from mlguard.protect.export import export_run
from mlguard.protect.export.public_file import host_graph
from mlguard.runtime.providers import load_graph
from tests.runs import KEY
from tests.splits import (
    FILE_MAPS,
    Exported,
    exported,
    file_overrides,
    public_file,
    split_recipe,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("halves")
    path, _ = public_file(folder / "public")
    return exported(folder, *file_overrides(path))


def images(*sides: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (3, 3, *sides), dtype=np.uint8)


def file_of(made: Exported) -> Path:
    return Path(made.run.recipe.model.backbone)


@pytest.mark.parametrize("sides", [(32, 32), (37, 50)])
def test_both_halves_are_the_model(made: Exported, sides: tuple[int, int]) -> None:
    shown = images(*sides)
    model = made.run.unlocked(KEY).load_model()
    normalization = normalization_of(made.run.recipe.model)
    with torch.inference_mode():
        expected = output_of(model, torch.from_numpy(shown), NO_KEY, normalization)
    with made.session() as session:
        np.testing.assert_allclose(session.logits(shown), expected, atol=1e-4)


def test_the_host_gets_the_file_s_own_maps(made: Exported) -> None:
    shown = images(40, 56)
    path, encoder = public_file(file_of(made).parent)
    assert path == file_of(made)
    session = load_graph(made.backbone.read_bytes(), name="host")
    found = session.run(list(FILE_MAPS), {"images": shown})
    with torch.inference_mode():
        fine = encoder[:2]((torch.from_numpy(shown) / 255 - 0.5) / 0.5)
        expected = [fine, encoder[2:4](fine)]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float16
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_the_bundle_and_the_host_s_file_name_the_public_file(made: Exported) -> None:
    facts = glimpse_bundle(made.bundle).manifest.backbone
    digest = hashlib.sha256(file_of(made).read_bytes()).hexdigest()
    assert facts is not None
    assert (facts.architecture, facts.weights) == ("onnx", "public-7.onnx")
    assert facts.tensors == digest
    props = {one.key: one.value for one in onnx.load(made.backbone).metadata_props}
    note = json.loads(props["mlguard.backbone"])
    assert (note["architecture"], note["tensors"]) == ("onnx", digest)


def test_whose_model_it_serves_does_not_show_in_the_host_s_file(
    made: Exported, tmp_path: Path
) -> None:
    recipe = split_recipe(Path("none"), *file_overrides(file_of(made)), "train.seed=5")
    job = Job(tmp_path / "run", recipe, DataFolder(None), device="cpu")
    report = export_run(job.protect(KEY, key_name="acme"), KEY, tmp_path / "a.mlgb")
    assert report.backbone is not None
    assert report.backbone.read_bytes() == made.backbone.read_bytes()


def renamed_file(folder: Path, *names: str) -> Path:
    """An encoder's file whose first tensors are called so."""
    path, _ = public_file(folder)
    model = onnx.load(path)
    old = [out for node in model.graph.node for out in node.output]
    new = dict(zip(old, names, strict=False))
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [new.get(one, one) for one in values]
    onnx.save(model, path)
    return path


def test_maps_may_have_the_names_of_other_tensors(tmp_path: Path) -> None:
    """Those of the normalization, and of the weights that torch exports."""
    path = renamed_file(tmp_path / "public", "first", "images/scale", "third", "w0")
    fields = (f"model.backbone={path}", "model.weights=none")
    made = exported(tmp_path, *fields, 'model.maps=["images/scale", "w0"]')
    with made.session() as session:
        assert session.logits(images(32, 32)).shape == (3, 6, 32, 32)


def test_the_prefix_of_the_file_s_tensors_is_that_of_no_map(tmp_path: Path) -> None:
    path = renamed_file(tmp_path, "a", "public/a", "b", "public/b")
    host = host_graph(OnnxBackbone(str(path), ["public/a", "public/b"]))
    made = [out for node in host.graph.node for out in node.output]
    assert len(made) == len(set(made))
    assert {"public/a", "public/b", "_public/a", "_public/public/b"} <= set(made)


def test_without_its_file_a_run_is_refused(made: Exported, tmp_path: Path) -> None:
    path = file_of(made)
    kept = path.read_bytes()
    other, _ = public_file(tmp_path / "other", seed=8)
    try:
        path.unlink()
        with pytest.raises(ModelFileError, match="cannot read model"):
            export_run(made.run, KEY, tmp_path / "a.mlgb")
        path.write_bytes(other.read_bytes())
        with pytest.raises(WeightsError, match="that the slices were trained beside"):
            export_run(made.run, KEY, tmp_path / "a.mlgb")
    finally:
        path.write_bytes(kept)
    assert [one.name for one in tmp_path.iterdir()] == ["other"]


def test_it_has_no_plain_twin(made: Exported, tmp_path: Path) -> None:
    job = Job(tmp_path / "run", made.run.recipe, DataFolder(None), device="cpu")
    with pytest.raises(RunError, match=r"trains its backbone, and .*\.onnx is"):
        job.train_baseline()
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_goes_on_beside_the_same_file_only(
    made: Exported, tmp_path: Path
) -> None:
    path, _ = public_file(tmp_path / "public")
    recipe = split_recipe(Path("none"), *file_overrides(path), "train.epochs=2")

    def job(**options: object) -> Job:
        return Job(tmp_path / "run", recipe, DataFolder(None), device="cpu", **options)

    def stop(event: object) -> None:
        if type(event).__name__ == "Epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(watch=stop).protect(KEY, key_name="acme")
    kept = path.read_bytes()
    path.write_bytes(public_file(tmp_path / "other", seed=8)[0].read_bytes())
    with pytest.raises(MlguardError, match="that the slices were trained beside"):
        job(resume=True).protect(KEY, key_name="acme")
    path.write_bytes(kept)
    done = job(resume=True).protect(KEY, key_name="acme")
    assert done.unlocked(KEY).load_model().backbone.file == path.name
