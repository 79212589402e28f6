"""Pages that are typed: their commands, and the files that they have a reader write."""

import re

BLOCK = re.compile(r"^```console\n(.*?)^```", re.S | re.M)
FILE = re.compile(r"^```(?:py|toml)\n# (\S+)\n(.*?)^```", re.S | re.M)  # name, text


def commands_in(page: str) -> list[str]:
    """Every command of a page's terminal blocks, in their order."""
    return re.findall(r"^\$ (.*)$", "\n".join(BLOCK.findall(page)), re.M)
