"""The host of a split model: its repository holds the public half, and no more."""

from pathlib import Path

import numpy as np
import pytest

from mlguard.bundle import glimpse_bundle, write_bundle
from mlguard.errors import BundleError, RemoteError, WrongBackbone
from mlguard.runtime import Session
from mlguard.serving import Served, write_repository
from tests.bundles import images, small_bundle
from tests.runs import KEY
from tests.serving.triton_server import needs_triton, triton, wait_for
from tests.splits import Exported, exported, file_overrides, public_file

AT_CLIENT = Served("backbone", key_at="client")


@pytest.fixture(scope="module", params=["torchvision", "file"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    folder = tmp_path_factory.mktemp("split")
    if request.param == "torchvision":
        return exported(folder)
    return exported(folder, *file_overrides(public_file(folder / "public")[0]))


def test_the_repository_is_the_public_half(made: Exported, tmp_path: Path) -> None:
    folder = write_repository(made.bundle, tmp_path, AT_CLIENT)
    files = {one.relative_to(folder): one for one in folder.rglob("*") if one.is_file()}
    assert {str(name) for name in files} == {
        "config.pbtxt",
        "1/model.onnx",
        "1/model.py",
    }
    served = (folder / "1" / "model.onnx").read_bytes()
    assert served == made.backbone.read_bytes()
    config = (folder / "config.pbtxt").read_text()
    assert 'name: "images" data_type: TYPE_UINT8 dims: [ 3, -1, -1 ]' in config
    *_, coarse = glimpse_bundle(made.bundle).manifest.backbone.maps
    dims = f"dims: [ {coarse.channels}, -1, -1 ]"
    assert f'name: "{coarse.name}" data_type: TYPE_FP16 {dims}' in config
    assert "max_batch_size: 16" in config  # what a client sends at once


@needs_triton
def test_a_real_triton_computes_the_backbone(made: Exported, tmp_path: Path) -> None:
    write_repository(made.bundle, tmp_path / "models", AT_CLIENT)
    (tmp_path / "scratch").mkdir()
    shown = images(20, 3, 37, 50)
    expected = made.session().predict(shown)
    with triton(tmp_path / "models", tmp_path / "scratch") as server:
        assert wait_for(lambda: server.ready("backbone")), server.log
        there = f"http://{server.http}/v2/models/backbone"
        with Session.open(made.bundle, KEY, backbone=there) as session:
            np.testing.assert_array_equal(session.predict(shown), expected)
        with pytest.raises(RemoteError):
            Session.open(made.bundle, KEY, backbone=f"{there}s")


def test_another_backbone_is_not_served(made: Exported, tmp_path: Path) -> None:
    other, out = tmp_path / "other.onnx", tmp_path / "models"
    other.write_bytes(made.backbone.read_bytes() + b"\n")
    for path, kind, words in (
        (other, WrongBackbone, "is not the backbone of this bundle"),
        (tmp_path / "none.onnx", BundleError, "cannot read the backbone"),
    ):
        with pytest.raises(kind, match=words):
            write_repository(made.bundle, out, AT_CLIENT, backbone=path)
    with pytest.raises(BundleError, match="the key stays at the client"):
        write_repository(made.bundle, out, Served("backbone"))
    assert not out.exists()


def test_a_whole_model_has_no_backbone(made: Exported, tmp_path: Path) -> None:
    write_bundle(tmp_path / "whole.mlgb", small_bundle())
    for served in (AT_CLIENT, Served("acme")):
        with pytest.raises(BundleError, match="is a whole model"):
            write_repository(
                tmp_path / "whole.mlgb",
                tmp_path / "models",
                served,
                backbone=made.backbone,
            )
    assert not (tmp_path / "models").exists()
