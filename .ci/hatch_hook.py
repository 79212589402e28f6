"""Pack the man pages of `make man` into the wheel, and into the source it is made of.

A wheel puts them into share/man of its environment, where `man` looks for a command
that is on the PATH. Without build/man, as in a checkout, nothing is packed.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MAN = "build/man/man1"


class ManPages(BuildHookInterface):  # type: ignore[misc,type-arg]
    """Add the pages to what is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the pages, each with its place."""
        pages = sorted((Path(self.root) / MAN).glob("*.1"))
        if self.target_name == "sdist":
            build_data["force_include"] |= {str(p): f"{MAN}/{p.name}" for p in pages}
        elif version != "editable":
            build_data["shared_data"] |= {
                str(p): f"share/man/man1/{p.name}" for p in pages
            }
