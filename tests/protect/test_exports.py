"""What is remembered of torch's exporter is what it would have said again."""

import pytest
import torch
from torch import nn

from mlguard.protect.export import export_graph
from tests import exports
from tests.protect.test_export import ProprietaryHead

pytestmark = pytest.mark.skipif(
    not exports.KNOWN, reason=f"torch {exports.WRITTEN_FOR} alone is known"
)


def head(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return ProprietaryHead().eval()


def test_the_graph_of_other_weights_is_the_one_that_the_exporter_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export_graph(head(1), 20)
    known = len(exports.MADE)
    remembered = export_graph(head(2), 20)
    assert len(exports.MADE) == known
    monkeypatch.setattr(exports._core, "export", exports.EXPORT)
    asked = export_graph(head(2), 20)
    assert remembered.SerializeToString() == asked.SerializeToString()
    assert remembered != export_graph(head(1), 20)


@pytest.mark.parametrize("change", ["setting", "shape", "class", "mode", "input"])
def test_a_model_of_another_form_is_asked_for(change: str) -> None:
    model, given = head(1), torch.zeros(2, 3, 8, 8)
    form = exports.form_of(model, given, {})
    assert form == exports.form_of(head(2), given, {})
    if change == "setting":
        model.patented_stem.padding = (0, 0)
    elif change == "shape":
        model.auxiliary = nn.Conv2d(8, 5, 1)
    elif change == "class":
        model.__class__ = type("Other", (ProprietaryHead,), {})
    elif change == "mode":
        model.train()
    else:
        given = torch.zeros(2, 3, 8, 9)
    assert exports.form_of(model, given, {}) != form


def test_what_cannot_be_told_is_not_remembered() -> None:
    model = head(1)
    model.other = object()
    assert exports.form_of(model, torch.zeros(1), {}) is None
    model.other = (torch.zeros(2),)
    assert exports.form_of(model, torch.zeros(1), {}) is None
