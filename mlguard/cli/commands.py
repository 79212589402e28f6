"""The table of commands: each is imported only when it is called.

So `mlguard --help` and `mlguard keys` start fast, and a broken package breaks only the
commands that need it.
"""

from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand

from mlguard.cli.extras import need
from mlguard.cli.panels import KEYS, LOOK, PROTECT, RUN, SHIP, Commands
from mlguard.cli.two_words import TwoWords


class Row(NamedTuple):
    """One command, or one group of them.

    Attributes:
        place: `module:name` of its function, or of the typer application of a group.
        help: The first line of its help, the same as in its docstring.
        panel: Its panel in the help of `mlguard`.
        examples: Lines for the end of its help; a group's commands have their own.
    """

    place: str
    help: str
    panel: str
    examples: tuple[str, ...] = ()


CLI = "mlguard.cli"
COMMANDS = {
    "keygen": Row(
        "keys:keygen",
        "Draw a new model key and store it under NAME.",
        KEYS,
        ("mlguard keygen acme",),
    ),
    "keys": Row(
        "keys:keys_app", "Model keys: make, show, rotate, destroy, back up.", KEYS
    ),
    "identity": Row(
        "identity:identity_app",
        "Identities: your own key pair, in a file or on a token.",
        KEYS,
    ),
    "export": Row(
        "export:export",
        "Write RUN as a bundle, after comparing it with the model it came from.",
        PROTECT,
        (
            "mlguard export model.onnx --key acme --out acme.mlgb",
            "mlguard export runs/acme --out acme.mlgb",
        ),
    ),
    "bind": Row(
        "bind:bind",
        "Make a trained model need the key, without training, and write a run folder.",
        PROTECT,
        (
            "mlguard bind runs/plain --key acme --method weights --out runs/acme",
            "mlguard bind model.safetensors --key acme --out sealed.safetensors",
        ),
    ),
    "rebind": Row(
        "bind:rebind",
        "Give a bound model another key, without training; RUN is not changed.",
        PROTECT,
        ("mlguard rebind runs/acme --key acme2 --out runs/acme2",),
    ),
    "protect": Row(
        "protect:protect",
        "Train a model that needs the key, and write a run folder to OUT.",
        PROTECT,
        ("mlguard protect --recipe camvid --key acme --data DIR --out runs/acme",),
    ),
    "train": Row(
        "train:train",
        "Train a plain model that needs no key; `mlguard bind` gives it one.",
        PROTECT,
        ("mlguard train --recipe demo --out runs/plain",),
    ),
    "recipes": Row(
        "recipes:recipes_app", "List, show, copy and check recipes.", PROTECT
    ),
    "layers": Row(
        "layers:layers",
        "List the layers of RECIPE's model, and which can be permuted "
        "without training.",
        PROTECT,
        ("mlguard layers demo",),
    ),
    "audit": Row(
        "audit:audit",
        "Measure what users with and without the key get, and write a report to OUT.",
        PROTECT,
        (
            "mlguard audit runs/acme --out report --budget quick",
            "mlguard audit acme.mlgb --key acme --data camvid --out report",
        ),
    ),
    "audit compare": Row(
        "compare:compare_audits",
        "Compare finished audits of several runs or methods.",
        PROTECT,
        (
            "mlguard audit compare reports/shf reports/np reports/ffx "
            "--out compared.html",
        ),
    ),
    "signer": Row(
        "signer:signer_app",
        "Signing keys: your own, and those that you trust.",
        SHIP,
    ),
    "issue": Row(
        "issue:issue_command",
        "Write a file that only one customer can open.",
        SHIP,
        (
            "mlguard issue acme.mlgb --key acme --to me.pub "
            '--licensee "Hospital A" --out hospital.mlgb',
        ),
    ),
    "renew": Row(
        "issue:renew_command",
        "Write a new grant for a customer's file, without the model.",
        SHIP,
    ),
    "revoke": Row(
        "issue:revoke_command",
        "Revoke a customer's grant: put it on your signed revocation list.",
        SHIP,
        ("mlguard revoke hospital.mlgb --key acme --list revoked.list",),
    ),
    "issued": Row(
        "issue:issued_command",
        "List the files issued under a model key, from your signed ledger.",
        SHIP,
        ("mlguard issued acme",),
    ),
    "trace": Row(
        "trace:trace",
        "Find whose copy of BUNDLE's model has leaked.",
        SHIP,
        ("mlguard trace leak.safetensors --key acme --bundle acme.mlgb",),
    ),
    "inspect": Row(
        "inspect_bundle:inspect",
        "Show the facts in FILE, without any key and without authentication.",
        RUN,
        ("mlguard inspect acme.mlgb",),
    ),
    "verify": Row(
        "verify:verify",
        "Verify the signature of BUNDLE, over every byte, and print the signer.",
        RUN,
        ("mlguard verify hospital.mlgb --signer owner.pub",),
    ),
    "selftest": Row(
        "selftest:selftest",
        "Open BUNDLE, check its transform and tensors, and run it once.",
        RUN,
        ("mlguard selftest acme.mlgb --key acme",),
    ),
    "predict": Row(
        "predict:predict",
        "Write a mask for every image, or its class if the bundle classifies.",
        RUN,
        (
            "mlguard predict acme.mlgb photos/ --key acme --out masks/ --overlay",
            "mlguard predict hospital.mlgb photos/ --identity me.identity --out masks/",
        ),
    ),
    "doctor": Row(
        "doctor:doctor",
        "Print versions, providers, the keystore's health, and what is missing.",
        LOOK,
    ),
    "samples": Row(
        "samples:samples",
        "Write the first images of a recipe's test split, at the recipe's size.",
        LOOK,
        ("mlguard samples --recipe demo --out photos --count 2",),
    ),
    "show-transform": Row(
        "show_transform:show_transform",
        "Draw an image plain and transformed, at several block sizes.",
        LOOK,
        ("mlguard show-transform photo.jpg --key acme --recipe camvid --out fig.png",),
    ),
    "exit-codes": Row(
        "exit_codes:exit_codes", "Print what every exit status means.", LOOK
    ),
}


class CommandTable(TwoWords):
    """The commands of `mlguard`, loaded one by one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Loaded()
        self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return their names, in the order of the table."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; only its name and first line while the help is written."""
        if self._listing:
            row = COMMANDS[cmd_name]
            return TyperCommand(cmd_name, help=row.help, rich_help_panel=row.panel)
        return super().get_command(ctx, cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help without loading a single command."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


class _Loaded(MutableMapping[str, Any]):
    """The commands by name, imported on access."""

    def __getitem__(self, name: str) -> Any:
        return load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError("commands are added to the table in this module")

    __delitem__ = __setitem__  # type: ignore[assignment]


def load(name: str) -> Any:
    """Import a command.

    Raises:
        KeyError: The command does not exist.
        MissingExtra: A package that it needs is missing or broken.
    """
    module, _, attribute = COMMANDS[name].place.partition(":")
    found = getattr(need(f"{CLI}.{module}"), attribute)
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = Commands()
    alone.command(name, examples=COMMANDS[name].examples)(found)
    return typer.main.get_command(alone)
