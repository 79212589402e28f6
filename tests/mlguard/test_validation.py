"""What pydantic refuses, in words: each field once, values only if asked for."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mlguard.validation import problems_of


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int | tuple[int, int] = 1
    kind: Literal["a", "b"] = "a"


class Outer(BaseModel):
    inner: Inner

    @model_validator(mode="after")
    def _fits(self) -> "Outer":
        if self.inner.size == 7:
            raise ValueError("7 does not fit")
        return self


def refused(value: object) -> ValidationError:
    with pytest.raises(ValidationError) as refusal:
        Outer.model_validate(value)
    return refusal.value


def test_each_field_is_named_once_and_its_value_kept_back() -> None:
    error = refused({"inner": {"size": "sesame", "kind": "sesame", "x": "sesame"}})
    said = problems_of(error)
    assert [line.partition(":")[0] for line in said] == [
        "inner.size.int",
        "inner.size",  # of the branch for pairs
        "inner.kind",
        "inner.x",
    ]
    assert "sesame" not in "".join(said)


def test_values_are_shown_in_short_if_asked_for() -> None:
    said = problems_of(refused({"inner": {"kind": "c" * 5_000}}), show=True)
    assert said[0].startswith("inner.kind: Input should be 'a' or 'b', got 'ccc")
    assert len(said[0]) < 200


def test_what_no_single_field_is_at_fault_for_is_said_of_the_whole() -> None:
    error = refused({"inner": {"size": 7}})
    assert problems_of(error) == ["7 does not fit"]
    assert problems_of(error, whole="the file") == ["the file: 7 does not fit"]
