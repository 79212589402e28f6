"""docs/deploy.md: the examples that need a bundle, a key and a photograph run too."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keystore import Identity, Keystore
from mlguard.bundle import write_bundle
from mlguard.transforms import derive_transform
from tests.bundles import KEY, PROTECTION_ID, images, small_bundle

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
BLOCKS = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.S | re.M)


def test_the_page_has_both_examples() -> None:
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("block", BLOCKS, ids=["session", "onnxruntime alone"])
def test_an_example_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bundle(Path("acme.mlgb"), small_bundle())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    identity = Identity.generate()
    identity.write(Path("owner.identity"))
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".config" / "mlguard" / "keystore.mlgk"
    place.parent.mkdir(parents=True)
    with Keystore.create(place, identity) as store:
        store.add("acme", KEY.reveal())
    Image.fromarray(images(9, 13, 3)).save("photo.jpg")
    subkeys = KEY.for_model(PROTECTION_ID)
    names = {"slots": derive_transform(["shf"], subkeys, block_size=4).slots()}
    exec(compile(block, "deploy.md", "exec"), names)
    if "mask" in names:
        assert np.shape(names["mask"]) == (1, 9, 13)
    else:
        assert np.shape(names["logits"]) == (1, 4, 64, 96)
