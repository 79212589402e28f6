"""The options that name a keystore and what opens it, as typer reads them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.panels import KEYSTORE

DEFAULT_KEYSTORE = str(Path(typer.get_app_dir("mlguard")) / "keystore.mlgk")
IDENTITY_VARIABLE = "MLGUARD_IDENTITY_FILE"
PASSPHRASE_VARIABLE = "MLGUARD_PASSPHRASE_FILE"
TOKEN_VARIABLE = "MLGUARD_TOKEN"
PIN_VARIABLE = "MLGUARD_PIN_FILE"

KeystorePlace = Annotated[
    str,
    typer.Option(
        "--keystore",
        envvar="MLGUARD_KEYSTORE",
        metavar="PATH or URL",
        help="The keystore: a file, or a database's URL.",
        show_default=DEFAULT_KEYSTORE.replace(os.path.expanduser("~"), "~"),
        rich_help_panel=KEYSTORE,
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help=f"Read the passphrase from a file (or {PASSPHRASE_VARIABLE})",
        rich_help_panel=KEYSTORE,
        show_default=False,
    ),
]
PassphraseFd = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        min=0,
        max=(1 << 31) - 1,
        metavar="N",
        help="Read the passphrase from an open file descriptor.",
        rich_help_panel=KEYSTORE,
        show_default=False,
    ),
]
IdentityFile = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        help=f"Open the keystore with an identity file (or {IDENTITY_VARIABLE})",
        rich_help_panel=KEYSTORE,
        show_default=False,
    ),
]


TokenKey = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="URI",
        help=f"Open it with a key on a PKCS#11 token (or {TOKEN_VARIABLE})",
        rich_help_panel=KEYSTORE,
        show_default=False,
    ),
]
PinFile = Annotated[
    Path | None,
    typer.Option(
        "--pin-file",
        help=f"Read the token's PIN from a file (or {PIN_VARIABLE})",
        rich_help_panel=KEYSTORE,
        show_default=False,
    ),
]
PinFd = Annotated[
    int | None,
    typer.Option(
        "--pin-fd",
        metavar="N",
        help="Read the token's PIN from an open file descriptor.",
        rich_help_panel=KEYSTORE,
        show_default=False,
    ),
]
