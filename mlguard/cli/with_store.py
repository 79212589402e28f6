"""Common parts of the `keys` commands: an open keystore, and answers as JSON."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from keystore import Keystore
from mlguard.cli.unlock import Unlock, with_options

P = ParamSpec("P")


def with_store(
    command: Callable[Concatenate[Keystore, P], None],
) -> Callable[..., None]:
    """Give a command an open keystore, and the options that open it."""

    @functools.wraps(command)
    def run(*args: Any, unlock: Unlock, **kwargs: Any) -> None:
        with unlock.open() as store:
            command(store, *args, **kwargs)

    return with_options(run, list(inspect.signature(command).parameters.values())[1:])
