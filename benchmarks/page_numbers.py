"""The numbers of a page of results as JSON, for pages whose runs left no file.

What a program measured lies beside its page as the program wrote it. Of older pages
only the page is left: this reads its tables and the numbers in its sentences, and says
so in the file. A test compares the two, so neither can be changed alone.

    python benchmarks/page_numbers.py docs/results/methods.md ...
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

NUMBER = re.compile(
    r"(?<![\w.,])\d{1,3}(?:,\d{3})+|(?<![\w.,])\d+(?:\.\d+)?(?:e-?\d+)?"
)
NOTE = "read from the page by benchmarks/page_numbers.py; the run left no file"


def main() -> None:
    for name in sys.argv[1:]:
        page = Path(name)
        text = json.dumps(of_page(page), indent=1, ensure_ascii=False)
        page.with_suffix(".json").write_text(text + "\n")


def of_page(page: Path) -> dict[str, Any]:
    """Tables by their headings, and sentences that have a number."""
    heading, rows = "", []
    sentences: list[dict[str, Any]] = []
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        elif line.startswith("|"):
            cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
            if not all(set(cell) <= set("-:") for cell in cells):
                rows.append({"under": heading, "cells": cells})
        elif not line.startswith("    ") and NUMBER.search(line):
            sentences.append({"under": heading, "text": line.strip()})
    return {"page": page.name, "note": NOTE, "rows": rows, "sentences": sentences}


if __name__ == "__main__":
    main()
