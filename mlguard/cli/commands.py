"""The table of commands: each is imported only when it is called.

So `mlguard --help` and `mlguard keys` start fast, and a broken package breaks only the
commands that need it.
"""

from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand

from mlguard.cli.extras import need
from mlguard.cli.two_words import TwoWords


class Row(NamedTuple):
    """One command, or one group of them.

    Attributes:
        place: `module:name` of its function, or of the typer application of a group.
        help: The first line of its help, the same as in its docstring.
    """

    place: str
    help: str


CLI = "mlguard.cli"
COMMANDS = {
    "keygen": Row("keys:keygen", "Draw a new model key and store it under NAME."),
    "keys": Row("keys:keys_app", "Model keys: make, show, rotate, destroy, back up."),
    "identity": Row(
        "identity:identity_app",
        "Identities: your own key pair, in a file or on a token.",
    ),
    "recipes": Row("recipes:recipes_app", "List, show, copy and check recipes."),
    "protect": Row(
        "protect:protect",
        "Train a model that needs the key, and write a run folder to OUT.",
    ),
    "train": Row(
        "train:train",
        "Train a plain model that needs no key; `mlguard bind` gives it one.",
    ),
    "bind": Row(
        "bind:bind",
        "Make a trained model need the key, without training, and write a run folder.",
    ),
    "rebind": Row(
        "bind:rebind",
        "Give a bound model another key, without training; RUN is not changed.",
    ),
    "layers": Row(
        "layers:layers",
        "List the layers of RECIPE's model, and which can be permuted "
        "without training.",
    ),
    "export": Row(
        "export:export",
        "Write RUN as a bundle, after comparing it with the model it came from.",
    ),
    "selftest": Row(
        "selftest:selftest",
        "Open BUNDLE, check its transform and tensors, and run it once.",
    ),
    "issue": Row(
        "issue:issue_command",
        "Write a file that only one customer can open.",
    ),
    "renew": Row(
        "issue:renew_command",
        "Write a new grant for a customer's file, without the model.",
    ),
    "revoke": Row(
        "issue:revoke_command",
        "Revoke a customer's grant: put it on your signed revocation list.",
    ),
    "issued": Row(
        "issue:issued_command",
        "List the files issued under a model key, from your signed ledger.",
    ),
    "trace": Row(
        "trace:trace",
        "Find whose copy of BUNDLE's model has leaked.",
    ),
    "signer": Row(
        "signer:signer_app", "Signing keys: your own, and those that you trust."
    ),
    "verify": Row(
        "verify:verify",
        "Verify the signature of BUNDLE, over every byte, and print the signer.",
    ),
    "inspect": Row(
        "inspect_bundle:inspect",
        "Show the facts in FILE, without any key and without authentication.",
    ),
    "predict": Row(
        "predict:predict",
        "Write a mask for every image, or its class if the bundle classifies.",
    ),
    "audit": Row(
        "audit:audit",
        "Measure what users with and without the key get, and write a report to OUT.",
    ),
    "audit compare": Row(
        "compare:compare_audits",
        "Compare finished audits of several runs or methods.",
    ),
    "samples": Row(
        "samples:samples",
        "Write the first images of a recipe's test split, at the recipe's size.",
    ),
    "show-transform": Row(
        "show_transform:show_transform",
        "Draw an image plain and transformed, at several block sizes.",
    ),
    "doctor": Row(
        "doctor:doctor",
        "Print versions, providers, the keystore's health, and what is missing.",
    ),
    "exit-codes": Row("exit_codes:exit_codes", "Print what every exit status means."),
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
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name].help)
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
    alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    alone.command(name)(found)
    return typer.main.get_command(alone)
