"""Which page stands where. A new page of a folder needs no line here.

A section lists pages and folders; a folder stands for its pages: README or index
first, then by name. A page that no section lists is an error of the build.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

SECTIONS: dict[str, list[str]] = {
    "Start": [
        "index.md",
        "install.md",
        "tutorial.md",
        "onnx-file.md",
        "own-module.md",
        "questions.md",
        "examples",
    ],
    "How to": [
        "models",
        "data.md",
        "bind.md",
        "split.md",
        "customers",
        "deploy.md",
        "deploy",
        "clients",
        "keystore",
        "howto",
    ],
    "Explanation": [
        "methods.md",
        "threat-model.md",
        "audit.md",
        "challenge.md",
        "architecture.md",
        "reproduce.md",
        "decisions",
    ],
    "Reference": [
        "reference",
        "spec",
    ],
    "Results": ["results"],
    "Project": ["project", "CONTRIBUTING.md", "CHANGELOG.md"],
}
FIRST = ("index.md", "README.md")
TITLES = {
    "models": "Your model",
    "customers": "Customers",
    "deploy": "Servers and containers",
    "clients": "JavaScript",
    "keystore": "Keystore",
    "howto": "More",
    "decisions": "Decisions",
    "examples": "Examples",
    "spec": "Specifications",
    "cli": "Commands",
    "api": "Python",
}


def navigation(pages: Iterable[str]) -> list[object]:
    """The navigation of MkDocs for pages, each named by its path below docs/.

    Raises:
        ValueError: A page is in no section.
    """
    left = set(pages)
    found: list[object] = []
    for title, entries in SECTIONS.items():
        inside: list[object] = []
        for entry in entries:
            if entry.endswith(".md"):
                inside += [entry] if entry in left else []
                left.discard(entry)
            else:
                below = {page for page in left if page.startswith(f"{entry}/")}
                left -= below
                inside += _folder(entry, below, alone=len(entries) == 1)
        if inside:
            found.append({title: inside})
    if left:
        raise ValueError(
            f"no section of docs/_site/navigation.py has {', '.join(sorted(left))}"
        )
    return found


def _folder(path: str, pages: set[str], *, alone: bool = False) -> list[object]:
    """A folder as one entry with its pages below it; alone in a section, its pages."""
    if not pages:
        return []
    depth = len(PurePosixPath(path).parts)
    own = sorted(
        (page for page in pages if len(PurePosixPath(page).parts) == depth + 1),
        key=lambda page: (PurePosixPath(page).name not in FIRST, page.lower()),
    )
    folders = sorted(
        {"/".join(PurePosixPath(page).parts[: depth + 1]) for page in pages - set(own)}
    )
    inside: list[object] = [*own]
    for folder in folders:
        inside += _folder(folder, {p for p in pages if p.startswith(f"{folder}/")})
    if alone or path == "reference":
        return inside
    name = PurePosixPath(path).name
    return [{TITLES.get(name, name.capitalize()): inside}]
