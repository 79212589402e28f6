"""Commands of two words whose first is also a command: `audit`, `audit compare`."""

from typing import Any

from typer.core import TyperGroup


class TwoWords(TyperGroup):
    """A table of commands in which "audit compare" is an ordinary name.

    `mlguard audit RUN` has an argument, so `audit` cannot be a table itself. Instead,
    two words are one command if the table has their pair; only that word is reserved,
    and a run folder of that name is written as a path, ./compare.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, by two words if the table has their pair."""
        pair = " ".join(args[:2])
        if len(args) > 1 and pair in self.commands:
            args = [pair, *args[2:]]
        return super().resolve_command(ctx, args)
