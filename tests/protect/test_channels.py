"""Encrypted feature maps, from the recipe to the bundle."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mlguard.audit.findings.budgets import BUDGETS
from mlguard.audit.run import Adversary
from mlguard.bundle import read_bundle
from mlguard.data import open_split
from mlguard.errors import MalformedBundle, RecipeError
from mlguard.models import NO_KEY, Normalization, keyed, logits_of, output_of
from mlguard.models.architectures.fcn_small import FCNSmall
from mlguard.protect import Protection, Run
from mlguard.protect.export import export_run
from mlguard.protect.key_work import key_space_of
from mlguard.runtime import Session
from mlguard.runtime.providers import load_graph
from mlguard.transforms.channels import order_slot, signs_slot
from tests.audits import TINY, audit_run
from tests.runs import KEY, OTHER_KEY, small_recipe, small_run

LAYERS = ("stages.0.branch.2", "stages.2.branch.2")
CHANNELS = f"transform.layers={list(LAYERS)}"
BOTH = ('transform.method=["shf", "channels"]', CHANNELS, "transform.signs=true")
ALONE = ("transform.method=channels", CHANNELS)
METHODS = {"alone": ALONE, "with shf": BOTH}


@pytest.fixture(scope="module", params=METHODS)
def run(request: pytest.FixtureRequest, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("channels") / "run"
    return small_run(folder, *METHODS[request.param])


def images(number: int = 2, side: int = 16) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(0, 256, (number, 3, side, side))
    return drawn.astype(np.uint8)


def test_the_key_decides_what_is_done_to_each_layer(run: Run) -> None:
    correct = run.transform(KEY)
    other = run.derive(OTHER_KEY.for_model(run.protection.protection_id))
    assert [one.layer for one in correct.channels] == list(LAYERS)
    assert [len(one.order) for one in correct.channels] == [32, 96]
    for one, two in zip(correct.channels, other.channels, strict=True):
        assert (one.order != two.order).any()


def test_the_model_is_built_once_for_all_keys(tmp_path: Path) -> None:
    """It only tells how many channels there are: an audit derives hundreds of keys."""
    built: list[bool] = []

    def build() -> FCNSmall:
        built.append(True)
        return FCNSmall(6)

    protection = Protection(bytes(16), KEY.key_id, "acme")
    run = Run(tmp_path, small_recipe(*ALONE), protection, {}, build)
    for number in range(3):
        run.derive(OTHER_KEY.for_model(bytes([number]) * 16))
    assert [*run.feature_channels().values()] == [32, 96]
    assert built == [True]


def test_no_key_material_is_in_the_weights(run: Run) -> None:
    """The weights have the plain architecture's names and shapes, and no others."""
    plain = small_recipe()
    state = run.load_model().state_dict()
    assert plain.model.name == "fcn_small"
    assert not [name for name in state if "order" in name or "sign" in name]
    assert not any(layer._forward_hooks for layer in run.load_model().modules())


@pytest.fixture(scope="module")
def bundle_file(run: Run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "acme.mlgb"
    export_run(run, KEY, out, sealed=False)
    return out


def test_the_bundle_predicts_what_the_model_predicts(
    run: Run, bundle_file: Path
) -> None:
    given = torch.from_numpy(images())
    model, condition = run.load_model(), keyed(run.transform(KEY))
    with torch.inference_mode():
        expected = logits_of(output_of(model, given, condition, Normalization()))
        without = logits_of(output_of(model, given, NO_KEY, Normalization()))
    got = Session.open(bundle_file, KEY).logits(images())
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-4)
    assert np.abs(got - without.numpy()).max() > 1e-2, "or the key did nothing"


def test_the_model_s_graph_does_not_load_without_the_key(bundle_file: Path) -> None:
    bundle = read_bundle(bundle_file)
    names = {order_slot(layer) for layer in LAYERS}
    assert names <= bundle.model_slots
    with pytest.raises(MalformedBundle, match=r"model\.onnx cannot be loaded"):
        load_graph(bundle.model, provider="cpu", name="model.onnx")
    wrong = {name: np.arange(3) for name in bundle.model_slots}
    with pytest.raises(MalformedBundle, match="cannot be loaded"):
        load_graph(bundle.model, provider="cpu", name="model.onnx", slots=wrong)


def test_no_order_is_in_the_file(run: Run, bundle_file: Path) -> None:
    data = bundle_file.read_bytes()
    for one in run.transform(KEY).channels:
        for kind in ("<i8", "<i4", "<i2", "u1"):
            assert one.order.astype(kind).tobytes() not in data
    graph = onnx.load_model_from_string(read_bundle(bundle_file).model)
    slots = [tensor for tensor in graph.graph.initializer if tensor.external_data]
    assert {slot.name for slot in slots} == read_bundle(bundle_file).model_slots
    assert not any(slot.raw_data or slot.int64_data for slot in slots)


def test_the_manifest_names_the_layers_and_the_key_space(
    run: Run, bundle_file: Path
) -> None:
    manifest = read_bundle(bundle_file).manifest
    signs = run.recipe.transform.signs
    expected = [(LAYERS[0], 32, signs), (LAYERS[1], 96, signs)]
    facts = [(one.layer, one.channels, one.signs) for one in manifest.feature_maps]
    assert facts == expected
    assert manifest.key_space_bits == round(key_space_of(run.recipe), 1)
    assert manifest.key_space_bits == round(run.transform(KEY).key_space_bits, 1)
    if signs:
        assert {signs_slot(layer) for layer in LAYERS} <= read_bundle(
            bundle_file
        ).model_slots


def test_an_audit_measures_and_attacks_feature_maps(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUDGETS, "quick", TINY)
    data = run.recipe.data
    adversary = Adversary(open_split(data, None, "train", seed=0), "train")
    settings = run.recipe.audit.model_copy(
        update={
            "incorrect_keys": 2,
            "budget": "quick",
            "attacks": ("retraining", "known-plaintext"),
        }
    )
    audited = audit_run(
        run,
        KEY,
        open_split(data, None, "test", seed=0),
        split="test",
        settings=settings,
        adversary=adversary,
        examples=1,
    )
    report = audited.report
    assert report.subject.layers == LAYERS
    assert report.findings.key_space_bits == pytest.approx(key_space_of(run.recipe))
    alone = run.recipe.transform.image_methods == ()
    variants = {finding.variant for finding in report.attacks.findings}
    assert ("feature adapter" if alone else "joint adapters") in variants
    left_out = {entry.attack for entry in report.attacks.not_run}
    assert ("known-plaintext" in left_out) == alone


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("transform.method=channels",), "none is named; `mlguard layers RECIPE`"),
        (('transform.layers=["stem"]',), "layers and signs need the method"),
        (("transform.signs=true",), "layers and signs need the method"),
        ((*ALONE, 'transform.layers=["a", "a"]'), "one of them is named twice"),
        ((*ALONE, 'transform.layers=["a b"]'), "String should match pattern"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(
    settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        small_recipe(*settings)


def test_methods_on_images_still_need_a_block_size() -> None:
    text = small_recipe().transform.model_dump() | {"method": "np"}
    del text["block_size"]
    with pytest.raises(ValueError, match="block_size: Field required"):
        type(small_recipe().transform).model_validate(text)


def test_a_layer_that_the_model_does_not_have_is_refused_before_training(
    tmp_path: Path,
) -> None:
    with pytest.raises(RecipeError, match=r"the model has no layer 'stages\.7'"):
        small_run(tmp_path / "run", *ALONE, 'transform.layers=["stages.7"]')
    assert not (tmp_path / "run").exists()
