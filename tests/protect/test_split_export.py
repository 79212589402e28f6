"""A split model in two halves: what is written, what runs it, what is refused."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mlguard.bundle import (
    Bundle2,
    FileOwner,
    Tensor2,
    bundle2_bytes,
    bundle2_of,
    glimpse_bundle,
)
from mlguard.bundle.backbone import misfit_of_probe, probe_of
from mlguard.bundle.manifest2 import parse_manifest2
from mlguard.cli import opening, predict
from mlguard.cli.audit_options import AuditOptions
from mlguard.cli.bundle_audit_task import open_bundle
from mlguard.cli.mark_cost import answers_of
from mlguard.errors import (
    BundleError,
    MalformedBundle,
    OptionError,
    OutputExists,
    RemoteError,
    RunError,
    ShapeError,
    WeightsError,
    WrongBackbone,
    WrongKey,
)
from mlguard.issuing import issue
from mlguard.models import NO_KEY, build_model, normalization_of, output_of
from mlguard.protect import DataFolder, Job, Run
from mlguard.protect.export import export_run, halves
from mlguard.recipe import read_recipe
from mlguard.runtime import Session
from mlguard.runtime.backbone import (
    LocalBackbone,
    RemoteBackbone,
    backbone_at,
    endpoint_of,
)
from mlguard.runtime.options import Compute
from tests.bundles import small_bundle
from tests.grants.people import HOSPITAL, OWNER
from tests.issuing.files import JUNE_TERMS
from tests.runs import KEY, OTHER_KEY, small_run
from tests.runtime.oip_server import Host, answer_of, host
from tests.splits import (
    MAPS,
    OVERRIDES,
    Exported,
    exported,
    public_weights,
    split_recipe,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(tmp_path_factory.mktemp("halves"))


def images(*sides: int, count: int = 3) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (count, 3, *sides), dtype=np.uint8)


@pytest.mark.parametrize("sides", [(32, 32), (37, 50)])
def test_both_halves_in_one_process_are_the_model(
    made: Exported, sides: tuple[int, int]
) -> None:
    model = made.run.unlocked(KEY).load_model()
    normalization = normalization_of(made.run.recipe.model)
    shown = images(*sides)
    with torch.inference_mode():
        expected = output_of(model, torch.from_numpy(shown), NO_KEY, normalization)
    session = made.session()
    np.testing.assert_allclose(session.logits(shown), expected, atol=1e-3)
    found = session.predict(shown)
    assert found.shape == (3, *sides)
    assert (found == np.asarray(expected).argmax(1)).mean() > 0.99


def test_the_backbone_is_public_and_says_so(made: Exported) -> None:
    graph = onnx.load(made.backbone)
    notes = {one.key: one.value for one in graph.metadata_props}
    assert "nothing in this file is secret" in notes["mlguard.backbone"]
    public = load_file(made.run.recipe.model.weights)
    # norms are folded into what stands before them, so a bias is looked for
    kept = [one for one in graph.graph.initializer if one.data_type == 1]
    numbers = sum(int(np.prod(one.dims)) for one in kept)
    assert numbers < sum(value.numel() for value in public.values())
    assert [one.name for one in graph.graph.output] == list(MAPS)


def test_the_backbones_file_follows_from_the_public_weights_alone(
    made: Exported, tmp_path: Path
) -> None:
    """Another owner's export gives the same file: nothing of any owner is in it."""
    recipe = split_recipe(
        Path(made.run.recipe.model.weights), "train.seed=5", "train.epochs=1"
    )
    job = Job(tmp_path / "run", recipe, DataFolder(None), device="cpu")
    run = job.protect(OTHER_KEY, key_name="other")
    export_run(run, OTHER_KEY, tmp_path / "other.mlgb")
    assert (tmp_path / "backbone.onnx").read_bytes() == made.backbone.read_bytes()


def test_nothing_private_is_in_the_backbone_or_plain_in_the_bundle(
    made: Exported,
) -> None:
    state = made.run.unlocked(KEY).load_model().state_dict()
    private = [
        value.numpy().tobytes()
        for name, value in state.items()
        if name.startswith("private.") and value.numel() > 8
    ]
    assert len(private) > 10
    for path in (made.backbone, made.bundle):
        content = path.read_bytes()
        assert not [one for one in private if one in content]


def test_the_manifest_says_which_backbone_and_no_more(made: Exported) -> None:
    manifest = glimpse_bundle(made.bundle).manifest
    facts = manifest.backbone
    assert facts is not None
    assert (facts.architecture, facts.weights) == (
        "mobilenet_v2",
        "public-7.safetensors",
    )
    assert [(one.name, one.channels, one.stride) for one in facts.maps] == [
        ("features.2", 24, 4),
        ("features.4", 32, 8),
    ]
    assert facts.tensors == made.run.unlocked(KEY).load_model().backbone.sha256()


def test_whole_models_have_no_such_section(made: Exported) -> None:
    manifest = glimpse_bundle(made.bundle).manifest
    whole = manifest.model_copy(update={"backbone": None})
    assert b'"backbone"' in manifest.to_bytes()
    assert b'"backbone"' not in whole.to_bytes()
    null = whole.to_bytes().replace(b'{"audit"', b'{"audit"', 1)
    spelled = null.replace(b',"coverage"', b',"backbone":null,"coverage"', 1)
    with pytest.raises(MalformedBundle, match="canonical spelling"):
        parse_manifest2(spelled, name="x")


def test_wrong_key_is_refused_by_name(made: Exported) -> None:
    with pytest.raises(WrongKey):
        Session.open(made.bundle, OTHER_KEY, backbone=made.backbone)


def test_the_page_runs(made: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/split.md."""
    text = (Path(__file__).parents[2] / "docs" / "split.md").read_text()
    (code,) = re.findall(r"^```py\n(.*?)^```", text, re.M | re.S)
    monkeypatch.chdir(made.bundle.parent)
    given = {"Path": Path, "key": KEY, "images": images(32, 32)}
    exec(code, given)
    assert given["masks"].shape == (3, 32, 32)


def test_private_half_alone_takes_tensors_and_predicts_nothing(made: Exported) -> None:
    session = Session.open(made.bundle, KEY)
    with pytest.raises(
        BundleError, match=r"private half .* needs the public half, mobilenet_v2"
    ):
        session.predict(images(32, 32))
    maps = LocalBackbone.open(made.backbone, session.manifest.backbone, Compute())
    shown = images(32, 32)
    found = session.run({"images": shown, **maps.maps(shown)})["logits"]
    np.testing.assert_array_equal(found, made.session().logits(shown))


def test_predict_takes_a_file_or_an_address(
    made: Exported, served: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "read_model_key", lambda *_, **__: KEY)
    (shown,) = images(32, 32, count=1)
    Image.fromarray(shown.transpose(1, 2, 0)).save(tmp_path / "a.png")
    for number, place in enumerate((made.backbone, f"{served.url}/v2/models/acme")):
        out, given = tmp_path / str(number), [tmp_path / "a.png"]
        predict.predict(made.bundle, given, key="acme", out=out, backbone=str(place))
        found = np.asarray(Image.open(out / "a.png"))
        np.testing.assert_array_equal(found, made.session().predict(shown[None])[0])
    with pytest.raises(BundleError, match="private half"):
        predict.predict(made.bundle, given, key="acme", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_predict_shows_a_host_its_token(
    made: Exported, served: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "read_model_key", lambda *_, **__: KEY)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    token, there = tmp_path / "token", f"{served.url}/v2/models/acme"
    token.write_text("s3cret-T0ken\n")

    def ask(name: str, **options: object) -> None:
        given = {"backbone": there, "backbone_token": token} | options
        images = [tmp_path / "a.png"]
        predict.predict(made.bundle, images, key="acme", out=tmp_path / name, **given)

    ask("masks")
    assert {headers["Authorization"] for _, headers, _ in served.asked} == {
        "Bearer s3cret-T0ken"
    }
    for options, words in (
        ({"backbone": str(made.backbone)}, "are for a host: give its address"),
        ({"backbone_token": tmp_path / "none"}, "cannot read the token in"),
        ({"backbone_ca": token}, "ca_file: cannot read"),
    ):
        if "backbone_ca" in options:
            options["backbone"] = there.replace("http:", "https:")
        with pytest.raises(OptionError, match=words) as refusal:
            ask("none", **options)
        assert "s3cret" not in str(refusal.value)
    token.write_text("two words")
    with pytest.raises(OptionError, match="without spaces") as refusal:
        ask("none")
    assert "two words" not in str(refusal.value)
    assert not (tmp_path / "none").exists()


def test_another_backbone_is_refused(made: Exported, tmp_path: Path) -> None:
    other = tmp_path / "backbone.onnx"
    other.write_bytes(made.backbone.read_bytes() + b"\n")
    with pytest.raises(WrongBackbone, match="is not the backbone of this bundle"):
        Session.open(made.bundle, KEY, backbone=other)
    with pytest.raises(BundleError, match="cannot read the backbone"):
        Session.open(made.bundle, KEY, backbone=tmp_path / "none.onnx")


def test_a_whole_model_takes_no_backbone(made: Exported, tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", "train.epochs=1")
    with pytest.raises(RunError, match="no split model"):
        export_run(run, KEY, tmp_path / "a.mlgb", backbone=tmp_path / "b.onnx")
    with pytest.raises(BundleError, match="is a whole model"):
        Session(small_bundle(), KEY, backbone=made.backbone)


def test_a_backbone_that_is_not_the_public_one_is_refused(
    made: Exported, tmp_path: Path
) -> None:
    path = Path(made.run.recipe.model.weights)
    kept = path.read_bytes()
    tensors = load_file(path)
    name = "features.2.conv.0.0.weight"
    tensors[name] = tensors[name] + 1e-6
    try:
        save_file(tensors, path)
        with pytest.raises(WeightsError, match="is not the public one"):
            export_run(made.run, KEY, tmp_path / "a.mlgb")
    finally:
        path.write_bytes(kept)
    assert list(tmp_path.iterdir()) == []


def test_another_file_in_the_backbones_place_is_left(
    made: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backbone.onnx").write_text("mine")
    facts = glimpse_bundle(made.bundle).manifest.backbone
    cut = halves.Halves(made.backbone.read_bytes(), onnx.ModelProto(), facts)
    monkeypatch.setattr(halves, "cut", lambda run, model: cut)
    with pytest.raises(OutputExists, match="is not the backbone of this run"):
        export_run(made.run, KEY, tmp_path / "a.mlgb")
    assert (tmp_path / "backbone.onnx").read_text() == "mine"
    assert not (tmp_path / "a.mlgb").exists()


IMAGES = Tensor2(name="images", datatype="UINT8", shape=(-1, 3, -1, -1))
OUTPUTS = [
    Tensor2(name="features.2", datatype="FP16", shape=(-1, 24, -1, -1)),
    Tensor2(name="features.4", datatype="FP16", shape=(-1, 32, -1, -1)),
]


@pytest.fixture
def served(made: Exported) -> Iterator[Host]:
    facts = glimpse_bundle(made.bundle).manifest.backbone
    local = LocalBackbone.open(made.backbone, facts, Compute())
    with host(
        lambda given: dict(local.maps(given["images"])), [IMAGES], OUTPUTS
    ) as one:
        yield one


def test_a_host_gives_what_the_file_gives(made: Exported, served: Host) -> None:
    shown = images(40, 56)
    expected = made.session().predict(shown)
    there = f"{served.url}/v2/models/acme"
    with Session.open(made.bundle, KEY, backbone=there) as session:
        found = session.predict(shown)
    np.testing.assert_array_equal(found, expected)
    sent = [sorted(tensors) for path, _, tensors in served.asked if "infer" in path]
    assert sent == [["images"], ["images"]]  # the probe, and the images


def test_many_images_go_in_batches(made: Exported, served: Host) -> None:
    facts = glimpse_bundle(made.bundle).manifest.backbone
    remote = RemoteBackbone(endpoint_of(f"{served.url}/v2/models/acme"), facts, batch=2)
    shown = images(32, 32, count=5)
    found = remote.maps(shown)
    remote.close()
    sizes = [
        len(tensors["images"]) for path, _, tensors in served.asked if "infer" in path
    ]
    assert sizes == [1, 2, 2, 1]
    local = LocalBackbone.open(made.backbone, facts, Compute()).maps(shown)
    assert all(np.array_equal(found[name], local[name]) for name in MAPS)


def noise(number: int, channels: int) -> np.ndarray:
    draw = np.random.default_rng(number)
    return draw.normal(size=(1, channels, 16 // number, 24 // number)).astype(
        np.float16
    )


TYPES = {"features.2": "FP16", "features.4": "FP16"}
GOOD = {"features.2": noise(1, 24), "features.4": noise(2, 32)}


@pytest.mark.parametrize(
    ("reply", "types", "words"),
    [
        (GOOD, TYPES, "runs another backbone: its map 'features.2' of the test image"),
        (
            GOOD | {"features.2": noise(2, 24)},
            TYPES,
            r"expected float16 of \[1, 24, 16",
        ),
        (GOOD | {"features.2": noise(1, 25)}, TYPES, r"expected FP16 of \[-1, 24"),
        (
            GOOD | {"features.4": noise(2, 32).astype(np.float32)},
            TYPES | {"features.4": "FP32"},
            "as FP32",
        ),
        (GOOD | {"features.4": noise(2, 32) * np.inf}, TYPES, "not finite"),
    ],
)
def test_a_host_that_answers_otherwise_is_refused(
    made: Exported,
    served: Host,
    reply: dict[str, np.ndarray],
    types: dict[str, str],
    words: str,
) -> None:
    served.reply = [(200, *answer_of(reply, types))]
    with pytest.raises(RemoteError, match=words):
        Session.open(made.bundle, KEY, backbone=f"{served.url}/v2/models/acme")


def test_a_host_of_another_model_is_refused_before_it_sees_an_image(
    made: Exported, served: Host
) -> None:
    served.outputs = OUTPUTS[:1]
    with pytest.raises(RemoteError, match=r"its model gives no 'features\.4'"):
        Session.open(made.bundle, KEY, backbone=f"{served.url}/v2/models/acme")
    assert not [path for path, *_ in served.asked if "infer" in path]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://host.example:8000/v2/models/acme", "expected https"),
        ("https://host.example:8000/acme", "model: expected letters"),
        ("https://user:word@host.example/v2/models/a", "no name, password"),
    ],
)
def test_an_address_that_cannot_be_is_refused(
    made: Exported, address: str, words: str
) -> None:
    facts = glimpse_bundle(made.bundle).manifest.backbone
    with pytest.raises(OptionError, match=words) as refusal:
        backbone_at(address, facts, Compute())
    assert "word@" not in str(refusal.value)


def test_maps_that_are_not_finite_are_refused_here_too(made: Exported) -> None:
    facts = glimpse_bundle(made.bundle).manifest.backbone
    local = LocalBackbone.open(made.backbone, facts, Compute())
    local._session = Overflowing()
    with pytest.raises(ShapeError, match="not finite"):
        local.maps(images(32, 32, count=1))


class Overflowing:
    """Stands for a graph whose features are beyond half precision."""

    def run(self, names: list[str], feeds: dict, options: object) -> list:
        side = feeds["images"].shape[2]
        shapes = [(1, c, side // s, side // s) for c, s in ((24, 4), (32, 8))]
        return [np.full(shape, np.inf, np.float16) for shape in shapes]


def test_a_probe_tells_hardware_from_weights(made: Exported) -> None:
    facts = glimpse_bundle(made.bundle).manifest.backbone
    exact = {
        one.name: np.repeat(np.array(one.probe), one.channels // 8)[None, :, None, None]
        for one in facts.maps
    }
    for name, about in zip(MAPS, facts.maps, strict=True):
        assert np.allclose(probe_of(exact[name]), about.probe, rtol=1e-3)
    rounded = {name: value * 1.001 for name, value in exact.items()}
    assert misfit_of_probe(facts, rounded) is None
    for name, other in itertools.product(MAPS, (np.nan, 1.2)):
        assert misfit_of_probe(facts, exact | {name: exact[name] * other})


def test_facts_are_closed(made: Exported) -> None:
    manifest = glimpse_bundle(made.bundle).manifest
    facts = manifest.backbone
    twice = facts.model_copy(update={"maps": (facts.maps[0], facts.maps[0])})
    fewer = facts.model_copy(update={"maps": facts.maps[:1]})
    for changed, words in ((twice, "a map is named twice"), (fewer, "not the inputs")):
        spelled = manifest.model_copy(update={"backbone": changed}).to_bytes()
        with pytest.raises(MalformedBundle, match=words):
            parse_manifest2(spelled, name="x")


def test_a_half_is_issued_to_a_customer_and_opens_beside_the_backbone(
    made: Exported, tmp_path: Path
) -> None:
    bundle, out = glimpse_bundle(made.bundle), tmp_path / "hospital.mlgb"
    assert isinstance(bundle, Bundle2)
    assert answers_of(bundle, KEY) is None  # the other half is not at hand
    issue(bundle, KEY, OWNER, HOSPITAL, JUNE_TERMS, out)
    shown = images(32, 32)
    theirs = Session.open(out, HOSPITAL, backbone=made.backbone)
    found, ours = theirs.logits(shown), made.session().logits(shown)
    assert 0 < np.abs(found - ours).max() < 0.1 * np.abs(ours).max()  # his mark


def test_a_half_is_not_audited_alone(made: Exported, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"private half .* alone answers nothing"):
        open_bundle(
            made.bundle,
            tmp_path,
            AuditOptions(
                split="test",
                device="cpu",
                examples=0,
                incorrect_keys=None,
                seed=None,
                budget=None,
                attacks=None,
            ),
            key_name="acme",
            recipe_name=None,
            overrides=(),
        )


CLASSIFIER = (
    "data.size=[32, 32]",
    'data.class_names=["cat", "dog", "tiger"]',
    *(one for one in OVERRIDES if one.startswith(("transform", "model"))),
    "model.name=sliced_classifier",
)


@pytest.mark.slow
@pytest.mark.parametrize("side", [0, 4])
def test_a_classifier_is_cut_as_well(tmp_path: Path, side: int) -> None:
    weights = public_weights(tmp_path)
    more = (f"model.weights={weights}", f"model.side={side}")
    recipe = read_recipe("imagefolder", overrides=[*CLASSIFIER, *more])
    run = Run(tmp_path, recipe, None, {})
    model = build_model(recipe.model, 3).eval()
    cut = halves.cut(run, model)
    owner = FileOwner.of(KEY.for_model(bytes(16)))
    bundle = bundle2_bytes(
        halves.private_model(run, cut, name="x"), owner, name="x.mlgb"
    )
    beside = LocalBackbone(cut.backbone, cut.facts, Compute(), name="x")
    session = Session(bundle2_of(bundle, name="x.mlgb"), KEY, backbone=beside)
    shown = images(40, 50)
    normalization = normalization_of(recipe.model)
    with torch.inference_mode():
        expected = output_of(model, torch.from_numpy(shown), NO_KEY, normalization)
    np.testing.assert_allclose(session.logits(shown), expected, atol=1e-4)
