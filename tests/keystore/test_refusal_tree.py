"""The drawing of the refusals is what the code says, and each can be acted on."""

import re

import keystore
from keystore import errors

LINES = re.findall(r"^([│ ]*)[├└]── (\w+)", errors.__doc__ or "", re.M)
DRAWN = [name for _, name in LINES]


def test_the_drawing_names_every_refusal() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and value not in (errors.KeystoreError, errors.Refusal)
    }
    assert DRAWN, "the next tests would pass by testing nothing"
    assert set(DRAWN) == defined


def test_every_refusal_is_a_keystore_error_and_exported() -> None:
    for name in DRAWN:
        assert issubclass(getattr(errors, name), errors.KeystoreError)
        assert name in keystore.__all__


def test_a_hint_given_in_words_wins_over_the_classs_own() -> None:
    assert errors.KeyNotFound("x").hint
    assert errors.KeyNotFound("x", hint="look again").hint == "look again"


def test_the_drawing_shows_what_a_refusal_is_a_kind_of() -> None:
    above = "KeystoreError"
    for indent, name in LINES:
        parent = above if indent else "KeystoreError"
        assert getattr(errors, name).__bases__ == (getattr(errors, parent),)
        above = above if indent else name
