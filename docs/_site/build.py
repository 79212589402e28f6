"""Build the site: `python docs/_site/build.py OUT`.

Pages are copied to OUT/docs with those that are written from the code, every link to a
file outside of docs/ is led to the page that shows it, and Zensical makes OUT/site of
them. Any warning of Zensical is an error.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from navigation import navigation  # noqa: E402
from pages import generated_pages  # noqa: E402

LINK = re.compile(r"(\]\()((?:\.\./)*)([A-Za-z][^)#\s:]*)(#[^)\s]*)?(\))")
# Files outside of docs/ that pages link to, and the pages that show them here.
SHOWN = {
    "README.md": "index.md",
    "clients/javascript/README.md": "clients/javascript.md",
    "SECURITY.md": "project/security.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
}
LEFT_OUT = ("_site",)


def prepare(out: Path) -> Path:
    """Write pages and configuration below a folder; gives the configuration."""
    docs = out / "docs"
    shutil.rmtree(docs, ignore_errors=True)
    shutil.copytree(ROOT / "docs", docs, ignore=shutil.ignore_patterns(*LEFT_OUT))
    written = generated_pages(ROOT)
    written |= {
        page: (ROOT / source).read_text()
        for source, page in SHOWN.items()
        if (ROOT / source).exists()
    }
    for page, content in written.items():
        (docs / page).parent.mkdir(parents=True, exist_ok=True)
        (docs / page).write_text(content)
    pages = sorted(str(path.relative_to(docs)) for path in docs.glob("**/*.md"))
    for page in pages:
        text = (docs / page).read_text()
        (docs / page).write_text(with_links_led(text, page))
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    config |= {"docs_dir": "docs", "site_dir": "site", "nav": navigation(pages)}
    python = config["plugins"][-1]["mkdocstrings"]["handlers"]["python"]
    python["paths"] = [str(ROOT)]
    names = python["options"]["extensions"]
    python["options"]["extensions"] = [str(ROOT / name) for name in names]
    file = out / "mkdocs.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return file


def with_links_led(text: str, page: str) -> str:
    """A page whose links to files outside of docs/ lead to the pages that show them."""
    shown = {page: source for source, page in SHOWN.items()}
    source = PurePosixPath(shown.get(page, f"docs/{page}"))

    def led(found: re.Match[str]) -> str:
        before, up, path, anchor, after = found.groups()
        target = _page_of(_joined(source.parent, up + path))
        if target is None:
            return found.group(0)
        steps = "../" * len(PurePosixPath(page).parent.parts)
        return f"{before}{steps}{target}{anchor or ''}{after}"

    return LINK.sub(led, text)


def _joined(folder: PurePosixPath, link: str) -> str:
    parts = list(folder.parts)
    for part in PurePosixPath(link).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _page_of(place: str) -> str | None:
    """The page, below docs/, that shows a file of the project; None: it is one."""
    if place in SHOWN:
        return SHOWN[place]
    if place.startswith("recipes/") and place.endswith(".toml"):
        return f"reference/recipes.md#{PurePosixPath(place).stem}"
    return place.removeprefix("docs/") if place.startswith("docs/") else None


def main(out: Path) -> int:
    """Build the site, and say where it is."""
    config = prepare(out)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    status = subprocess.run([*command, "-f", config.name], cwd=out, check=False)
    if status.returncode == 0:
        print(f"open {out / 'site' / 'index.html'}")
    return status.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()))
