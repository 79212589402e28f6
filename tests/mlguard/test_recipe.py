"""Recipes: what is accepted, and that every problem is named at once."""

from pathlib import Path

import pytest

from mlguard.errors import RecipeError
from mlguard.recipe import (
    dump_recipe,
    parse_recipe,
    read_recipe,
    recipe_sha256,
    recipe_text,
    shipped_recipes,
)
from tests.endless import ENDLESS, endless


def test_there_are_recipes_to_check() -> None:
    assert {"demo", "fcn_voc", "camvid"} <= set(shipped_recipes())


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipe_is_sound_and_survives_being_written_out(name: str) -> None:
    recipe = read_recipe(name)
    assert parse_recipe(dump_recipe(recipe), name=name) == recipe


def how_it_is_made(name: str) -> str:
    """The command of a recipe: models that are bound are trained plain."""
    return "train" if name.endswith("_bound") else "protect"


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipe_opens_with_a_manual_and_says_where_secrets_are_not(
    name: str,
) -> None:
    header = recipe_text(name).partition("recipe = 1")[0]
    assert f"mlguard {how_it_is_made(name)} --recipe" in header
    assert "No secret is ever written in a recipe" in header


def test_every_option_is_explained_in_the_manual() -> None:
    manual = recipe_text("fcn_voc").partition("recipe = 1")[0]
    sections = read_recipe("fcn_voc").model_dump()
    del sections["recipe"]
    fields = [field for section in sections.values() for field in section]
    assert len(fields) > 30
    assert [field for field in fields if field not in manual] == []


def test_fcn_voc_is_the_setting_of_the_paper() -> None:
    recipe = read_recipe("fcn_voc")
    assert (recipe.data.size, recipe.data.validation) == ((256, 256), 146)
    train = recipe.train
    assert (train.epochs, train.batch, train.restart_epochs) == (100, 256, 10)
    assert (train.learning_rate, train.min_learning_rate) == (0.1, 1e-4)
    assert (train.momentum, train.weight_decay) == (0.9, 0.005)
    assert train.keep == "best_validation_loss"


def test_every_problem_is_reported_at_once() -> None:
    text = recipe_text("demo").replace("epochs ", "epocs ").replace('"shf"', '"rot13"')
    with pytest.raises(RecipeError) as refusal:
        parse_recipe(text, name="bad")
    assert refusal.value.problems == (
        "transform.method: Input should be 'shf', 'np', 'ffx', 'orthogonal', "
        "'channels', 'passport', 'weights' or 'split', got 'rot13'",
        "train.epochs: Field required",
        "train.epocs: unknown field; did you mean train.epochs?",
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("transform.block_size=0", "block_size: expected one of 1, 2, 4"),
        ("transform.block_size=128", "128 does not divide data.size 64 x 64"),
        ('transform.method=["ffx", "np"]', "np works on 0…255"),
        ('transform.method=["shf", "shf"]', "one or more different methods"),
        ("transform.method=[]", "one or more different methods"),
        ("train.epochs=many", "valid integer, got 'many'"),
        ("train.epochs=0", "greater than or equal to 1"),
        ("data.ignore_index=2", "2 is one of the 6 classes"),
        ("data.crop_scale=[1.0, 0.5]", "1.0 is above 0.5"),
        ("model.weights=a.safetensors", "needs the mean and std"),
        ("model.mean=[0.5, 0.5, 0.5]", "mean and std must be given together"),
        ("train.epochs", "expected section.field=value"),
        ("recipe.x=1", "recipe is not a section"),
        ("model.name=os.system", "model.name: Input should be"),
        ("train.learning_rate=inf", "train.learning_rate: Input should be a finite"),
        ('export.licence="a\\tb"', "export.licence: contains control characters"),
    ],
)
def test_unfit_value_is_refused_in_words(override: str, words: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        read_recipe("demo", overrides=[override])
    assert words in str(refusal.value)


def test_override_takes_a_bare_word_or_toml() -> None:
    overrides = ["transform.method=np", "train.epochs=3", 'data.train="t"']
    recipe = read_recipe("demo", overrides=overrides)
    assert recipe.transform.methods == ("np",)
    assert (recipe.train.epochs, recipe.data.train) == (3, "t")


def test_any_change_changes_the_digest() -> None:
    demo = recipe_sha256(read_recipe("demo"))
    assert demo == recipe_sha256(read_recipe("demo"))
    assert demo != recipe_sha256(read_recipe("demo", overrides=["train.seed=1"]))


def test_unknown_recipe_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(
        RecipeError, match=r"no such file or recipe; known are camvid.*mean fcn_voc\?$"
    ):
        read_recipe("fcn_vok")
    with pytest.raises(RecipeError, match=r"mean camvid\?$"):
        read_recipe("camvd.toml")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epocs=3", "train.epocs: unknown field; did you mean train.epochs?"),
        ("epochs=3", "epochs: unknown field; did you mean train.epochs?"),
        ("model.learning_rate=1", "did you mean train.learning_rate?"),
        ("trian.epochs=3", "trian: unknown field; did you mean train?"),
        ('transform.method=["np", "sfh"]', "got 'sfh'; did you mean shf?"),
        ("data.batch=3", "did you mean train.batch or audit.batch?"),
        ("transform.method=sfh", "got 'sfh'; did you mean shf?"),
        ("model.name=fcn_smal", "got 'fcn_smal'; did you mean fcn_small?"),
        ("audit.budget=quik", "got 'quik'; did you mean quick?"),
        ('audit.attacks=["retrainin"]', "got 'retrainin'; did you mean retraining?"),
        ("model.backbone=mobilenet_v1", "did you mean mobilenet_v"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(
    override: str, words: str
) -> None:
    with pytest.raises(RecipeError) as refusal:
        read_recipe("demo", overrides=[override])
    assert words in str(refusal.value)


def test_what_is_near_nothing_is_not_guessed_at() -> None:
    with pytest.raises(RecipeError) as refusal:
        read_recipe("demo", overrides=["train.zzzzzzzz=3", "model.name=os.system"])
    assert "did you mean" not in str(refusal.value)


def test_thousands_of_unknown_fields_are_not_all_compared() -> None:
    text = recipe_text("demo") + "".join(f"epocs{n} = 1\n" for n in range(20_000))
    with pytest.raises(RecipeError) as refusal:
        parse_recipe(text, name="hostile")
    assert str(refusal.value).count("did you mean") <= 20


def test_text_that_is_not_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("recipe = 1\nepochs: 3\n")
    with pytest.raises(RecipeError, match=r"not TOML: .*line 2"):
        read_recipe(str(path))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"#" * (2 << 20)])
def test_file_that_is_no_text_of_a_recipes_size_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"cannot be read as text|larger than"):
        read_recipe(str(path))


DEEP, LONG = "[" * 50_000, "9" * 5_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"recipe = {DEEP}", "nested too deeply"),
        (f"recipe = {LONG}", "a number with thousands of digits"),
        (f"recipe = 0x{LONG}", "got a value too long to show"),
        (f"recipe = [0x{LONG}]", "got a value too long to show"),
        ("recipe = '" + "a" * 5_000 + "'", "got 'aaaaa"),
        (".".join("a" * 5_000) + " = 1", "nested too deeply"),
        ("a" * 5_000 + " = 1", "a…: unknown field"),
        ("=" * 5_000, "not TOML"),
    ],
    ids=[
        "deep",
        "decimal",
        "hexadecimal",
        "in a list",
        "text",
        "dotted",
        "name",
        "no key",
    ],
)
def test_text_made_to_exhaust_the_reader_is_refused_in_short(
    text: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words) as refusal:
        parse_recipe(text, name="bad")
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"train.epochs={DEEP}", "nested too deeply"),
        (f"train.epochs={LONG}", "a number with thousands of digits"),
        (f"train.epochs=0x{LONG}", "train.epochs: Input should be"),
        (f"train.learning_rate=0x{LONG}", "train.learning_rate: Input should be"),
        (f"transform.block_size=0x{LONG}", "expected one of 1, 2"),
        ("train.a.b=1", "expected section.field=value"),
        (".".join("a" * 5_000) + "=1", "expected section.field=value"),
    ],
    ids=["deep", "decimal", "hexadecimal", "rate", "block", "three", "thousands"],
)
def test_setting_made_to_exhaust_the_reader_is_refused_in_short(
    override: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words) as refusal:
        read_recipe("demo", overrides=[override])
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    "override",
    [
        "data.size=[8256, 64]",
        "data.shapes_images=[10, 1000001, 10]",
        "data.validation=1000001",
        "train.epochs=100001",
        "train.batch=65537",
        "train.restart_epochs=100001",
        "audit.incorrect_keys=100001",
        "audit.nearby_keys=100001",
        "audit.batch=65537",
        f"audit.nearby={[0.5] * 101}",
    ],
)
def test_number_that_no_machine_could_serve_is_refused(override: str) -> None:
    field = override.partition("=")[0]
    with pytest.raises(RecipeError, match=rf"{field}.*(less than|at most)"):
        read_recipe("demo", overrides=[override])


@pytest.mark.parametrize("kind", ENDLESS)
def test_file_without_an_end_is_refused(tmp_path: Path, kind: str) -> None:
    path = endless(tmp_path / "bad.toml", kind)
    with pytest.raises(RecipeError, match="cannot be read: not a regular file"):
        read_recipe(str(path))


def test_recipe_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        read_recipe("demo").train.epochs = 3  # type: ignore[misc]
