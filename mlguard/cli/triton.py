"""`mlguard export … --target triton`: write a model repository instead of a bundle."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlguard.cli.answers import answer
from mlguard.cli.panels import TRITON
from mlguard.errors import OptionError

Target = Annotated[
    Literal["bundle", "triton"],
    typer.Option(
        help="What to write: a bundle, or a repository for Triton.",
        rich_help_panel=TRITON,
    ),
]
KeySource = Annotated[
    str | None,
    typer.Option(
        help="For triton: where the server finds the key, such as "
        "file:/run/secrets/acme.key; a place, never a key.",
        show_default=False,
        rich_help_panel=TRITON,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="For triton: the model's name; default: the bundle's.",
        show_default=False,
        rich_help_panel=TRITON,
    ),
]
KeyAt = Annotated[
    Literal["server", "client"],
    typer.Option(
        help="For triton: who has the key, server or client. With client, the host "
        "gets a model that is not sealed, or a split model's backbone, and no key.",
        rich_help_panel=TRITON,
    ),
]
Instances = Annotated[
    int,
    typer.Option(
        help="For triton: number of sessions at a time.", min=1, rich_help_panel=TRITON
    ),
]
ModelVersion = Annotated[
    int,
    typer.Option(
        "--model-version",
        help="For triton: the version, beside older ones.",
        min=1,
        rich_help_panel=TRITON,
    ),
]


def write_triton(
    bundle: Path,
    out: Path,
    *,
    name: str | None,
    key_source: str | None,
    key_at: Literal["server", "client"],
    instances: int,
    version: int,
    backbone: Path | None = None,
    as_json: bool = False,
) -> None:
    """Write a repository around an existing bundle.

    Raises:
        OptionError: A name or a source is not valid in a configuration.
        BundleError: The bundle cannot be read, or the host needs its key.
        OutputError: The repository has this version, or cannot be written.
    """
    from mlguard.serving import Served, write_repository

    served = Served(
        name or bundle.stem,
        key_source or "",
        version=version,
        instances=instances,
        key_at=key_at,
    )
    folder = write_repository(bundle, out, served, backbone=backbone)
    where = (
        key_source or "the source that MLGUARD_KEY_SOURCE names when the server starts"
    )
    told = f"the key comes from {where}"
    if key_at == "client":
        told = "not sealed, without the key"
    value = {
        "repository": str(folder),
        "version": version,
        "key_at": key_at,
        "key_source": key_source,
    }
    answer(value, f"{folder}  version {version}  {told}", as_json=as_json)


def check_target(target: str, run: Path, *, key_at: str = "server") -> bool:
    """Whether to write a repository.

    Raises:
        OptionError: The source is not a bundle.
        typer.BadParameter: An option needs a repository.
    """
    if target != "triton":
        if key_at != "server":
            raise typer.BadParameter("--key-at needs --target triton")
        return False
    if run.suffix.lower() != ".mlgb":
        raise OptionError(
            "the repository",
            [f"expected a bundle, NAME.mlgb, got {run}: export that first"],
        )
    return True
