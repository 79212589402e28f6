"""Import modules of optional extras, or name the missing extra."""

import importlib
from types import ModuleType

OURS = {"mlguard", "keystore"}


def need(module: str, *, extra: str = "train") -> ModuleType:
    """Import one of our modules that needs an optional extra.

    Raises:
        MissingExtra: A package of the extra is missing or broken.
    """
    from mlguard.errors import MissingExtra  # `mlguard --help` does without

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS:
            raise
        raise MissingExtra(
            f"this command needs the package {package}, which is not installed",
            hint=f"install it with `pip install '.[{extra}]'` in a checkout of mlguard",
        ) from None
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # What a missing library, or one of another version, raises on import.
        why = str(error).partition("\n")[0] or type(error).__name__
        raise MissingExtra(
            f"a package that this command needs is broken: {why}",
            hint="`mlguard doctor` finds out which, and how to repair it",
        ) from None
