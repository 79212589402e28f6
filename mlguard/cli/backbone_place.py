"""Where `predict` finds the public half of a split model, and what opens its host."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.bundle import BackboneFacts
from mlguard.cli.panels import SPLIT
from mlguard.errors import OptionError
from mlguard.files import read_bounded
from mlguard.runtime.backbone import RemoteBackbone, endpoint_of, is_address

MAX_TOKEN_BYTES = 1 << 14

BackbonePlace = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="Of a split model: its backbone.onnx, or the address of a host that "
        "runs it, https://HOST:PORT/v2/models/NAME.",
        show_default=False,
        rich_help_panel=SPLIT,
    ),
]
BackboneToken = Annotated[
    Path | None,
    typer.Option(
        "--backbone-token-file",
        help="Of a split model: a file with the bearer token that its host asks for.",
        show_default=False,
        rich_help_panel=SPLIT,
    ),
]
BackboneAuthority = Annotated[
    Path | None,
    typer.Option(
        "--backbone-ca-file",
        help="Of a split model: certificates to trust its host by, in PEM; default: "
        "the system's.",
        show_default=False,
        rich_help_panel=SPLIT,
    ),
]


def backbone_for(
    facts: BackboneFacts | None,
    place: str | None,
    token_file: Path | None,
    ca_file: Path | None,
) -> str | RemoteBackbone | None:
    """Return what a session takes as its backbone.

    Args:
        facts: The backbone in the bundle's manifest; None for a whole model.
        place: A file or an address; None for no backbone.
        token_file: The file of the host's bearer token.
        ca_file: Certificates to trust instead of the system's.

    Raises:
        OptionError: A file cannot be read or used, or there is no host to use it with.
        RemoteError: The host does not answer, or runs another backbone.
    """
    if token_file is None and ca_file is None:
        return place
    if facts is None or place is None or not is_address(place):
        raise OptionError(
            "the backbone",
            [
                "--backbone-token-file and --backbone-ca-file are for a host: give its "
                "address with --backbone"
            ],
        )
    token = None if token_file is None else _token_in(token_file)
    return RemoteBackbone(endpoint_of(place, token=token, ca_file=ca_file), facts)


def _token_in(path: Path) -> str:
    try:
        text = read_bounded(path, MAX_TOKEN_BYTES).decode("ascii", errors="replace")
    except OSError as error:
        raise OptionError(
            "the backbone", [f"cannot read the token in {path}: {error.strerror}"]
        ) from None
    return text.strip()
