"""`--build MODULE:FUNCTION`: the function that makes your own model. Needs torch.

The name comes only from the command line, never from a file.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlguard.cli.panels import ADVANCED
from mlguard.errors import OptionError

if TYPE_CHECKING:
    from mlguard.protect.key_work import Build

BuildName = Annotated[
    str | None,
    typer.Option(
        "--build",
        metavar="MODULE:FUNCTION",
        help="The function that makes your own model, if no recipe names it; imported "
        "from the current folder or an installed package.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]


def build_of(name: str | None) -> "Build | None":
    """Return the function of that name, run once; None if none was named.

    Raises:
        OptionError: The function does not exist, or does not make a torch module.
    """
    if name is None:
        return None
    from torch import nn

    module, _, function = name.partition(":")
    if not module or not function:
        raise OptionError("--build", [f"expected MODULE:FUNCTION, got {name[:80]!r}"])
    sys.path.insert(0, os.getcwd())  # as with `python -m`
    try:
        build: Build = getattr(importlib.import_module(module), function)
        made = build()
    except Exception as error:  # the code is the user's own: it may raise anything
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise OptionError(
            "--build", [f"{name[:80]} does not make a model: {why}"]
        ) from None
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(made, nn.Module):
        kind = type(made).__name__
        raise OptionError("--build", [f"{name[:80]} makes a {kind}, not a module"])
    return build
