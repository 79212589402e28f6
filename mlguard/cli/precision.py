"""`mlguard export --precision`: fewer bits for the numbers of a run's model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlguard.cli.panels import ADVANCED

if TYPE_CHECKING:
    from mlguard.bundle import PrecisionFacts
    from mlguard.protect import Run
    from mlguard.protect.export import Rounding

Precision = Annotated[
    Literal["fp32", "fp16", "int8"],
    typer.Option(
        help="Of a run's weights and activations. With fewer bits, the manifest says "
        "what that costs on the recipe's test images.",
        rich_help_panel=ADVANCED,
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of the run's data set, for --precision.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]


def refuse_precision(precision: str, data: Path | None) -> None:
    """Refuse options that need a run.

    Raises:
        typer.BadParameter: One was given.
    """
    if precision != "fp32" or data is not None:
        raise typer.BadParameter(
            "--precision and --data go with a run: round a model of your own with "
            "onnxruntime's tools, and then export it"
        )


def rounding_of(run: "Run", precision: str, data: Path | None) -> "Rounding | None":
    """Return how to round a run's model, and the images to measure the cost on.

    Raises:
        typer.BadParameter: There are images and nothing to measure.
        DatasetError: The images are missing.
    """
    from mlguard.data import open_split
    from mlguard.protect.export import Rounding

    if precision == "fp32":
        if data is not None:
            raise typer.BadParameter("--data goes with --precision fp16 or int8")
        return None
    spec, seed = run.recipe.data, run.recipe.train.seed
    kind: Literal["fp16", "int8"] = "fp16" if precision == "fp16" else "int8"
    return Rounding(
        kind,
        open_split(spec, data, "train", seed=seed),
        open_split(spec, data, "test", seed=seed),
    )


def cost_in_words(cost: "PrecisionFacts", unit: str, score: str) -> str:
    """Return the cost of rounding, in one line."""
    change = ""
    if cost.before is not None and cost.after is not None:
        change = f"; {score} {cost.before:.4f} before, {cost.after:.4f} after"
    return (
        f"{cost.kind}: {cost.agreement:.2%} of the {unit} of {cost.images} test images "
        f"have the same class as before{change}"
    )
