"""Export and bind a .pt2 file from the command line."""

from pathlib import Path

import typer

from mlguard.cli.answers import answer
from mlguard.cli.extras import need
from mlguard.cli.model_key import open_model_key
from mlguard.cli.onnx_model import facts_of
from mlguard.cli.unlock import Unlock
from mlguard.files import refuse_existing


def is_program(path: Path) -> bool:
    """Whether a path names a program saved by torch.export."""
    return path.suffix.lower() == ".pt2"


def export_program(
    model: Path,
    out: Path,
    key: str | None,
    *,
    about: Path | None,
    unlock: Unlock,
    as_json: bool = False,
) -> None:
    """Write a .pt2 file as a bundle, and print what is under the key.

    Raises:
        typer.BadParameter: No key was named.
        ModelFileError: The file cannot be protected.
    """
    if key is None:
        raise typer.BadParameter("a .pt2 file does not name a key: give one with --key")
    need("mlguard.protect.modules")
    from mlguard.foreign import read_about
    from mlguard.protect.modules import bind_program

    refuse_existing(out)  # before a passphrase is asked for
    said = None if about is None else read_about(about)
    with open_model_key(key, unlock) as held:
        done = bind_program(model, held.key, out, about=said)
        held.register("bundle", done.protection_id.hex())
        key_id = held.key.key_id
    text = (
        f"{out}  {done.size_bytes / 1e6:.1f} MB  key {key_id}  sealed\n"
        f"covered: {done.share:.2%} of the weights; outputs {', '.join(done.outputs)} "
        f"differ from the program's by at most {done.difference:.1e} of their largest "
        "value"
    )
    value = facts_of(out, key_id, done.size_bytes) | {"share": done.share}
    answer(value, text, as_json=as_json)
