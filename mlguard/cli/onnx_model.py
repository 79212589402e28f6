"""Export and bind an ONNX file from the command line, without torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlguard.cli.answers import answer
from mlguard.cli.extras import need
from mlguard.cli.model_key import open_model_key
from mlguard.cli.panels import ONNX
from mlguard.cli.unlock import Unlock
from mlguard.errors import ModelFileError
from mlguard.files import refuse_existing

if TYPE_CHECKING:
    from mlguard.foreign import Exported

SUFFIXES = {".onnx", ".ort"}
SHOWN = 10  # uncovered tensors named on the terminal
AboutFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file that describes an ONNX model's image and answer.",
        rich_help_panel=ONNX,
    ),
]
FreezeInputs = Annotated[
    bool,
    typer.Option(
        "--freeze-inputs",
        help="Turn inputs with default values into constants (ONNX).",
        rich_help_panel=ONNX,
    ),
]
Example = Annotated[
    Path | None,
    typer.Option(
        help="An .npz of inputs for the comparison of an ONNX model; default: random.",
        rich_help_panel=ONNX,
    ),
]


def is_onnx(path: Path) -> bool:
    """Whether a path names an ONNX file and not a run."""
    return path.suffix.lower() in SUFFIXES


def refuse_onnx_options(
    about: Path | None, example: Path | None, *, freeze_inputs: bool
) -> None:
    """Refuse options that only an ONNX file has.

    Raises:
        typer.BadParameter: One was given.
    """
    if about or example or freeze_inputs:
        raise typer.BadParameter(
            "--about, --example and --freeze-inputs need an .onnx file"
        )


def export_onnx(
    model: Path,
    out: Path,
    key: str | None,
    *,
    about: Path | None,
    example: Path | None,
    freeze_inputs: bool,
    unlock: Unlock,
    as_json: bool = False,
) -> None:
    """Write an ONNX file as a bundle, and print what is under the key.

    Raises:
        typer.BadParameter: No key was named.
        ModelFileError: The file cannot be protected.
    """
    if key is None:
        raise typer.BadParameter(
            "an ONNX file does not name a key: give one with --key"
        )
    need("mlguard.foreign", extra="onnx")
    from mlguard.foreign import export_file, read_about

    refuse_existing(out)  # before a passphrase is asked for
    said = None if about is None else read_about(about)
    inputs = None if example is None else _arrays(example)
    with open_model_key(key, unlock) as held:
        done = export_file(
            model,
            held.key,
            out,
            about=said,
            example=inputs,
            freeze_inputs=freeze_inputs,
        )
        held.register("bundle", done.protection_id.hex())
        key_id = held.key.key_id
    lines = [f"{out}  {done.size_bytes / 1e6:.1f} MB  key {key_id}  sealed"]
    value = facts_of(out, key_id, done.size_bytes) | {"share": done.lifted.share}
    answer(value, "\n".join([*lines, *coverage_of(done)]), as_json=as_json)


def facts_of(
    out: Path, key_id: str, size_bytes: int, *, sealed: bool = True
) -> dict[str, Any]:
    """What every export says of the bundle that it wrote."""
    return {
        "bundle": str(out),
        "size_bytes": size_bytes,
        "key_id": key_id,
        "sealed": sealed,
    }


def coverage_of(done: "Exported") -> list[str]:
    """How much stands under the key, and what was compared."""
    lifted = done.lifted
    lines = [
        f"covered: {lifted.share:.2%} of the weights, {len(lifted.tensors)} tensors "
        f"each with its own key, {lifted.covered_bytes / 1e6:.1f} MB; the rest is "
        "sealed with the graph",
        *(
            f"  {one.name}  {one.size_bytes} bytes stay in the graph: {one.reason}"
            for one in lifted.uncovered[:SHOWN]
        ),
    ]
    if len(lifted.uncovered) > SHOWN:
        lines.append(f"  and {len(lifted.uncovered) - SHOWN} more")
    compared = lifted.comparison
    if compared is not None:
        shapes = ", ".join(f"{k} {list(v)}" for k, v in compared.inputs.items())
        same = (
            "the shapes are equal; the model draws random numbers"
            if compared.random
            else "all bits are equal"
        )
        lines.append(f"compared with the model on {shapes or 'no inputs'}: {same}")
    return lines


def _arrays(example: Path) -> dict[str, Any]:
    from mlguard.cli.arrays import read_arrays  # numpy is not needed before

    return read_arrays(example, ModelFileError)
