"""docs/examples: every script and the notebook run, in an empty folder."""

import json
import runpy
import threading
import urllib.request
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from mlguard.runtime import Session
from tests.bundles import KEY
from tests.bundles2 import shuffled, small2

pytestmark = pytest.mark.trains
FOLDER = Path(__file__).parents[2] / "docs" / "examples"
SAYS = {  # what each prints, besides that it ends
    "own_model": "100.00% of the pixels agree",
    "issue_to_customer": "somebody else: hospital.mlgb was issued to",
    "attack_own_model": "known-plaintext, one pair:",
    "add_transform": "41.4 bits at M=4",
    "add_attack": "upside down ",
}
SERVES = {"serve"}


def test_every_example_is_run_here_and_on_the_page() -> None:
    found = {path.stem for path in FOLDER.glob("*.py")}
    assert found == set(SAYS) | SERVES
    page = (FOLDER / "README.md").read_text()
    assert all(f"({path.name})" in page for path in FOLDER.glob("*.[pi]*"))


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert SAYS[name] in capsys.readouterr().out


def test_a_bundle_is_served(tmp_path: Path) -> None:
    serve = runpy.run_path(str(FOLDER / "serve.py"))
    Image.fromarray(np.zeros((9, 13, 3), np.uint8)).save(tmp_path / "photo.png")
    session = Session(small2(image=shuffled()), KEY)
    with serve["server"](session, 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{running.server_address[1]}/"
        photo = (tmp_path / "photo.png").read_bytes()
        with urllib.request.urlopen(address, photo, timeout=30) as answer:
            (tmp_path / "mask.png").write_bytes(answer.read())
        running.shutdown()
        thread.join()
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (13, 9)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((FOLDER / "first_look.ipynb").read_text())
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells)  # nothing stale is shown
    names: dict[str, object] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), "first_look.ipynb", "exec"), names)
    order = np.array(names["order"])
    known = names["transform"].slots()["shf.order"].ravel()  # type: ignore[attr-defined]
    assert (order == known).mean() > 0.9
