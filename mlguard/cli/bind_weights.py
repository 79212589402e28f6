"""`mlguard bind` of a .safetensors file: every tensor under the key."""

from collections.abc import Mapping
from pathlib import Path

import typer

from mlguard.cli.model_key import open_model_key
from mlguard.cli.printable import say
from mlguard.cli.unlock import Unlock

SUFFIX = ".safetensors"
USE = "weights"  # the name of such a file in the keystore's list of uses


def is_weights(out: Path) -> bool:
    """Whether to write a weights file, and not a run folder."""
    return out.suffix == SUFFIX


def bind_weights(
    model: Path, key: str, out: Path, unlock: Unlock, *, others: Mapping[str, object]
) -> None:
    """Bind a plain .safetensors file of any model to a key.

    Args:
        model: The plain file.
        key: Name of the key in the keystore.
        out: The bound file to write.
        unlock: The keystore, and how to open it.
        others: Options that were given, by their names; none of them applies.
    """
    if given := [name for name, value in others.items() if value]:
        raise typer.BadParameter(
            f"{given[0]} applies to a run folder; {out} becomes a weights file with "
            "every tensor sealed",
            param_hint="--out",
        )
    if model.suffix != SUFFIX:
        raise typer.BadParameter(
            f"{out} can only be made from a {SUFFIX} file, got {model}",
            param_hint="--out",
        )
    from mlguard.weights import bind_file  # numpy, which `--help` does not need

    with open_model_key(key, unlock) as held:
        protection_id = bind_file(model, out, held.key)
        held.register(USE, protection_id.hex())
    say(f"bound file: {out}")
