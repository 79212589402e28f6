"""Key files as `mlguard keys export` writes them."""

from pathlib import Path

from keystore import write_private
from keystore.textform import KEY_1, to_text
from mlguard.keys import ModelKey


def write_key(path: Path, key: ModelKey) -> None:
    write_private(path, to_text(KEY_1, key.reveal()), comments=["for a test"])
