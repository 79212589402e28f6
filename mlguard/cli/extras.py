"""Import what only the optional extras install, or say which extra is missing."""

import importlib
from types import ModuleType

from mlguard.errors import MissingExtra


def need(module: str, *, extra: str = "train") -> ModuleType:
    """Import one of our modules that stands on an optional extra.

    Raises:
        MissingExtra: A package that the extra installs is not there.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"mlguard", "keystore", "refusals"}:
            raise
        raise MissingExtra(
            f"this command needs the package {package}, which is not installed",
            hint=f"install it with `pip install '.[{extra}]'` in a checkout of mlguard",
        ) from None
