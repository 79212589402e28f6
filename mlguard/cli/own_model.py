"""`--build MODULE:FUNCTION`: what makes a model that no recipe names. Needs torch.

The name comes from whoever types the command, never from a file.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlguard.errors import OptionError

if TYPE_CHECKING:
    from mlguard.protect.key_work import Build

BuildName = Annotated[
    str | None,
    typer.Option(
        "--build",
        metavar="MODULE:FUNCTION",
        help="What makes the model, where it is your own and no recipe names it: "
        "imported from the current folder, or from what is installed.",
        show_default=False,
    ),
]


def build_of(name: str | None) -> "Build | None":
    """The function of that name, run once; None if none was named.

    Raises:
        OptionError: There is no such function, or it makes no torch module.
    """
    if name is None:
        return None
    from torch import nn

    module, _, function = name.partition(":")
    if not module or not function:
        raise OptionError("--build", [f"expected MODULE:FUNCTION, got {name[:80]!r}"])
    sys.path.insert(0, os.getcwd())  # as `python -m` has it
    try:
        build: Build = getattr(importlib.import_module(module), function)
        made = build()
    except Exception as error:  # the code is the user's own: anything can come of it
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise OptionError("--build", [f"{name[:80]} makes no model: {why}"]) from None
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(made, nn.Module):
        kind = type(made).__name__
        raise OptionError("--build", [f"{name[:80]} makes a {kind}, not a module"])
    return build
