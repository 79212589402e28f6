"""The table of commands: each is imported when it is called, and not before.

So `mlguard --help` and `mlguard keys` start fast, and a package that is broken breaks
only the commands that need it.
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
        help: Its first line of help; the same as in its docstring.
    """

    place: str
    help: str


CLI = "mlguard.cli"
COMMANDS = {
    "keygen": Row("keys:keygen", "Draw a new model key and keep it under NAME."),
    "keys": Row("keys:keys_app", "Model keys: make, show, rotate, destroy, back up."),
    "identity": Row(
        "identity:identity_app",
        "Identities: a key pair of your own, in a file.",
    ),
    "recipes": Row("recipes:recipes_app", "List, show, copy and check recipes."),
    "protect": Row(
        "protect:protect",
        "Train a model that needs the key, and leave a run folder in OUT.",
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
        "Give a bound model another key, without training; RUN stays as it is.",
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
        "Open BUNDLE, compare what can be compared, and run it once.",
    ),
    "issue": Row(
        "issue:issue_command",
        "Write a file that one customer opens, and nobody else.",
    ),
    "renew": Row(
        "issue:renew_command",
        "Give a customer a new grant for the file he has, without the model.",
    ),
    "revoke": Row(
        "issue:revoke_command",
        "Take a customer's grant back: put it on your signed list of revoked grants.",
    ),
    "issued": Row(
        "issue:issued_command",
        "List what was issued under a model key, from your signed ledger.",
    ),
    "trace": Row(
        "trace:trace",
        "Say whose copy of BUNDLE's model has leaked, or that it is nobody's.",
    ),
    "signer": Row(
        "signer:signer_app", "The signing key of an owner, and whom to trust."
    ),
    "verify": Row(
        "verify:verify",
        "Say who signed BUNDLE, after comparing every byte with what was signed.",
    ),
    "inspect": Row(
        "inspect_bundle:inspect",
        "Show what FILE says of itself, without any key; nobody vouches for it.",
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
        "Set finished audits of several runs or methods beside each other.",
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
        """Their names, in the order of the table."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command; its name and first line only, while the help is written."""
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
    """The commands by name; whoever takes one has it imported."""

    def __getitem__(self, name: str) -> Any:
        return load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError("a command is added to the table in this module")

    __delitem__ = __setitem__  # type: ignore[assignment]


def load(name: str) -> Any:
    """Import a command.

    Raises:
        KeyError: There is no such command.
        MissingExtra: A package that it needs is not there, or is broken.
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
