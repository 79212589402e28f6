"""Refuse a path that names no model, before anything slow is imported for it."""

from pathlib import Path

from mlguard.errors import MalformedRun


def check_model_path(path: Path, kinds: tuple[str, ...] = ()) -> None:
    """Refuse a path that is neither a folder nor a file of a known kind.

    Args:
        path: What the user named.
        kinds: Suffixes of the files that the command takes besides run folders.

    Raises:
        MalformedRun: Nothing is there, or it is another file.
    """
    wanted = " or ".join(["a run folder", *(f"a {kind} file" for kind in kinds)])
    if not path.exists():
        raise MalformedRun(
            f"{path}: no such file or folder", hint=f"this command takes {wanted}"
        )
    if path.is_file() and path.suffix.lower() not in kinds:
        raise MalformedRun(f"{path} is not {wanted}")
