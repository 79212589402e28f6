"""The pages' code for other libraries runs where these are installed."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from mlguard.bundle import glimpse_bundle
from mlguard.protect import BoundModule
from tests.runs import KEY

PAGES = Path(__file__).parents[2] / "docs/models"
BLOCK = re.compile(r"^```py\n# (\w+)\n(.*?)^```", re.S | re.M)
LIBRARIES = {  # the page, what is imported, the multiple of sizes, the first output
    "timm": ("timm", 0, "output"),
    "segmentation_models": ("segmentation_models_pytorch", None, "output"),
    "transformers": ("transformers", None, "logits"),
    "torchvision_detection": ("torchvision", 0, "boxes"),
    "monai": ("monai", 4, "output"),
    "ultralytics": ("ultralytics", None, "0"),
}


def block_of(library: str) -> str:
    (found,) = BLOCK.findall((PAGES / f"{library}.md").read_text())
    assert found[0] == library
    return str(found[1])


@pytest.mark.interop
@pytest.mark.filterwarnings("default")  # other libraries warn as they please
@pytest.mark.parametrize("library", LIBRARIES)
def test_code_of_a_page_runs(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, multiple, output = LIBRARIES[library]
    pytest.importorskip(package, exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {"key": KEY}
    exec(compile(block_of(library), library, "exec"), names)
    done = names["done"]
    assert isinstance(done, BoundModule)
    assert done.outputs[0] == output
    assert done.share > 0.95
    assert multiple is None or done.sizes.multiple == multiple
    assert glimpse_bundle(done.path).manifest.coverage.share == 1


def test_every_page_has_a_block() -> None:
    assert all(block_of(library) for library in LIBRARIES)
