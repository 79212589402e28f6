"""`mlguard trace`: a leak leads to the customer whose copy it is."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import save_file

from keystore import Identity
from mlguard.bundle import bundle2_of, glimpse_bundle
from mlguard.cli.app import run
from mlguard.cli.parties import Holder
from mlguard.issuing import open_issued
from tests.cli.test_issue import office  # noqa: F401 - a fixture
from tests.issuing.test_issue import write_big
from tests.thief.test_issued import rebuilt_bytes

BIG = np.random.default_rng(0).normal(size=(64, 64, 3, 3)).astype(np.float32)
TRACE = ["trace", "--key", "acme", "--bundle", "acme.mlgb", "--json"]


@pytest.fixture
def files(office: Path) -> Path:  # noqa: F811 - the fixture
    """Files of two customers, of a model that is large enough for marks."""
    (office / "acme.mlgb").unlink()
    write_big(office / "acme.mlgb", BIG)
    for name in ("hospital", "clinic"):
        to = ["--to", f"{name}.pub", "--licensee", name, "--out", f"{name}.mlgb"]
        assert run(["issue", "acme.mlgb", "--key", "acme", *to]) == 0
    return office


def traced(leak: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert run([*TRACE, leak]) == 0
    found = json.loads(capsys.readouterr().out)
    return [one["customer"].split()[0] for one in found["customers"] if one["named"]]


def opened(folder: Path, name: str) -> dict[str, np.ndarray]:
    """A customer's weights, as he has them in memory."""
    bundle = glimpse_bundle(folder / f"{name}.mlgb")
    holder = Holder(Identity.read(folder / f"{name}.identity"))
    unlocked = bundle.unlock(open_issued(bundle, holder))
    return {
        row.header.name: data.view(np.float32).reshape(row.header.shape)
        for row, data in unlocked.tensors(unlocked.graph().rows)
    }


def test_the_file_itself_leads_to_its_customer(files: Path, capsys) -> None:
    assert traced("hospital.mlgb", capsys) == ["hospital"]
    assert traced("clinic.mlgb", capsys) == ["clinic"]


def test_opened_weights_lead_to_their_customer(files: Path, capsys) -> None:
    save_file(opened(files, "clinic"), files / "leak.safetensors")
    assert traced("leak.safetensors", capsys) == ["clinic"]
    bind = ["bind", "leak.safetensors", "--key", "acme", "--out", "bound.safetensors"]
    assert run(bind) == 0
    assert traced("bound.safetensors", capsys) == ["clinic"]


def test_half_precision_in_an_onnx_file_leads_there_too(files: Path, capsys) -> None:
    weight = opened(files, "hospital")["w"].astype(np.float16)
    x, y = (
        onnx.helper.make_tensor_value_info(n, 10, ["N", 64, "H", "W"]) for n in "xy"
    )
    node = onnx.helper.make_node("Conv", ["x", "another"], ["y"], pads=[1] * 4)
    given = [numpy_helper.from_array(weight, "another")]
    graph = onnx.helper.make_graph([node], "leak", [x], [y], given)
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, files / "leak.onnx")
    assert traced("leak.onnx", capsys) == ["hospital"]


def test_a_mixture_leads_to_everybody_in_it(files: Path, capsys) -> None:
    both = [opened(files, name)["w"] for name in ("hospital", "clinic")]
    save_file({"w": (both[0] + both[1]) / 2}, files / "leak.safetensors")
    assert sorted(traced("leak.safetensors", capsys)) == ["clinic", "hospital"]


def test_the_owners_own_weights_and_foreign_ones_are_nobodys(
    files: Path, capsys
) -> None:
    save_file({"w": BIG}, files / "leak.safetensors")
    assert traced("leak.safetensors", capsys) == []
    noise = np.random.default_rng(9).normal(size=BIG.shape).astype(np.float32)
    save_file({"w": noise}, files / "other.safetensors")
    assert traced("other.safetensors", capsys) == []


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("acme.pt", 40, "cannot read weights from"),
        ("nothing.safetensors", 40, "nothing.safetensors"),
        ("nothing.mlgb", 40, "nothing.mlgb: no such file"),
    ],
)
def test_what_cannot_be_read_is_said(
    files: Path, capsys, name: str, code: int, said: str
) -> None:
    (files / "acme.pt").write_bytes(b"PK")
    assert run([*TRACE, name]) == code
    assert said in capsys.readouterr().err


def test_a_copy_from_another_export_is_traced_too(files: Path, capsys) -> None:
    write_big(files / "again.mlgb", BIG)
    capsys.readouterr()
    assert (
        run(
            [
                "trace",
                "--key",
                "acme",
                "--bundle",
                "again.mlgb",
                "--json",
                "hospital.mlgb",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert [name.split()[0] for name in found["named"]] == ["hospital"]


def test_an_issued_file_is_no_original(files: Path, capsys) -> None:
    arguments = ["--key", "acme", "--bundle", "clinic.mlgb", "hospital.mlgb"]
    assert run(["trace", *arguments]) == 20
    assert "was issued to a customer and carries his mark" in capsys.readouterr().err


def test_weights_of_another_shape_clear_nobody(files: Path, capsys) -> None:
    save_file({"w": np.ones((3, 5), np.float32)}, files / "leak.safetensors")
    capsys.readouterr()
    assert (
        run(["trace", "--key", "acme", "--bundle", "acme.mlgb", "leak.safetensors"])
        == 0
    )
    assert "cannot compare" in capsys.readouterr().out


def test_a_leaker_who_took_the_grant_out_is_named(files: Path, capsys) -> None:
    content = (files / "hospital.mlgb").read_bytes()
    bundle = bundle2_of(content, name="it")
    (files / "bare.mlgb").write_bytes(rebuilt_bytes(bundle, grant=None, signature=None))
    assert traced("bare.mlgb", capsys) == ["hospital"]


def test_a_cut_ledger_clears_nobody(files: Path, capsys) -> None:
    book = files / "k.mlgk.issued"
    book.write_bytes(b"".join(book.read_bytes().splitlines(keepends=True)[:-1]))
    assert run([*TRACE, "clinic.mlgb"]) == 20
    assert "lacks 1 grants that the keystore knows" in capsys.readouterr().err


def test_issuing_says_what_a_mark_changes(files: Path, capsys) -> None:
    to = ["--to", "clinic.pub", "--licensee", "Clinic", "--out", "again.mlgb"]
    capsys.readouterr()
    assert run(["issue", "acme.mlgb", "--key", "acme", *to]) == 0
    out = capsys.readouterr().out
    assert "marked: 100% of the weights carry the code" in out
    assert "its answers were not compared with those of your model" in out
