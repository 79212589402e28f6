"""The base of refusals: errors that say what was found, and what to do about it.

The keystore has a tree of refusals with a root of its own, and so has the program that
uses it; roots built on this one class behave alike.
"""


class Refusal(Exception):
    """A refusal to do what a user asked for.

    Passing the wrong Python type is a bug, not a refusal, and raises TypeError or
    ValueError.

    Args:
        message: What was expected and what was found; lower case, no full stop.
        hint: Advice that a person can act on. It overrides the class's own hint.
    """

    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint
