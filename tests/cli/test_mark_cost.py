"""What a mark changes in the answers is measured, where the model takes images."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from mlguard.bundle import Model2, glimpse_bundle, write_bundle2
from mlguard.cli.mark_cost import answers_of, compare
from mlguard.issuing import issue, open_issued
from tests.bundles import KEY
from tests.bundles2 import SUBKEYS, facts2, graph_of, outside, task_facts
from tests.grants.people import HOSPITAL, OWNER
from tests.issuing.files import JUNE_TERMS


def owners(path: Path) -> Path:
    """A model of images whose second layer is large enough for a mark."""
    draw = np.random.default_rng(0)
    first, data = outside("v", draw.normal(size=(64, 3, 3, 3)).astype(np.float32))
    second, more = outside("w", draw.normal(size=(4, 64, 5, 5)).astype(np.float32))
    nodes = [
        helper.make_node("Conv", ["pixels", "v"], ["h"], pads=[1] * 4),
        helper.make_node("Conv", ["h", "w"], ["logits"], pads=[2] * 4),
    ]
    graph = graph_of(
        nodes,
        [
            helper.make_tensor_value_info(
                "pixels", TensorProto.FLOAT, ["N", 3, "H", "W"]
            )
        ],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["N", 4, "H", "W"]
            )
        ],
        [first, second],
    )
    facts = facts2(task=task_facts())
    write_bundle2(path, Model2(facts, graph, [data, more]), SUBKEYS)
    return path


def test_a_marked_file_answers_nearly_as_the_owners(tmp_path: Path) -> None:
    path = owners(tmp_path / "acme.mlgb")
    ours = answers_of(glimpse_bundle(path), KEY)
    assert ours is not None
    found = {}
    for mark in (True, False):
        out = tmp_path / f"{mark}.mlgb"
        issue(glimpse_bundle(path), KEY, OWNER, HOSPITAL, JUNE_TERMS, out, mark=mark)
        secrets = open_issued(glimpse_bundle(out), HOSPITAL)
        found[mark] = compare(ours, out, secrets)
    assert found[False].difference == 0
    assert found[False].agreement == 1
    assert 0 < found[True].difference < 0.1 * found[True].largest
    assert found[True].agreement > 0.9
    assert "of the classes are the same" in str(found[True])
