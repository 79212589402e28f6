"""Draw two pictures from what is known already: attack curves, and who holds what.

The curves are the numbers of docs/results/attacks.json, measured on CamVid under a
demonstration key; nothing is measured here, and nothing is typed twice.

    python benchmarks/diagrams.py --out docs/results/pictures
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from figures import save
from matplotlib.patches import FancyBboxPatch

NUMBERS = Path(__file__).parents[1] / "docs" / "results" / "attacks.json"
EVERYWHERE = "Re-training a model that is bound everywhere"
ANCESTOR = "A public ancestor of a model that is bound everywhere"
CORRECT_KEY = 0.522  # on every second image, as the curves are; in the text of the page
FLOOR = 0.024

SAFE, PART, ALL = "#d5ead8", "#fbe7b8", "#f4c7c3"  # what a thief of it gets
Cells = dict[str, list[list[str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    save(attack_curves(tables()), options.out / "attack_curves.png")
    save(holdings(), options.out / "holdings.png")


# Attack curves


def tables() -> Cells:
    """The rows of the page of attacks, by their heading."""
    content = json.loads(NUMBERS.read_text())
    found: Cells = {}
    for row in content["rows"]:
        found.setdefault(row["under"], []).append(row["cells"])
    for number in (CORRECT_KEY, FLOOR):
        said = [one["text"] for one in content["sentences"]]
        if not any(f"{number:.3f}" in text for text in said):
            raise SystemExit(f"{NUMBERS} does not say {number}")
    return found


def curve(rows: list[list[str]], name: str) -> list[tuple[int, float]]:
    """Score by labelled images, of one row of a table with these at its head."""
    head = next(row for row in rows if row[0] == "labelled images")
    cells = next(row for row in rows if row[0] == name)
    return [
        (int(number), float(score.rstrip(" *")))
        for number, score in zip(head[1:], cells[1:], strict=True)
        if number.isdecimal() and score
    ]


def adapter(rows: list[list[str]]) -> list[tuple[int, float]]:
    """Score by labelled images, of the adapter for one permuted layer."""
    start = next(at for at, row in enumerate(rows) if row[2] == "linear adapter")
    return [(int(row[3].split()[0]), float(row[4])) for row in rows[start : start + 3]]


def best(*curves: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The best score at each number of images."""
    return [
        (points[0][0], max(score for _, score in points))
        for points in zip(*curves, strict=True)
    ]


def attack_curves(found: Cells) -> plt.Figure:
    """What labelled images buy a thief of the weights, by method."""
    everywhere = found[EVERYWHERE]
    lines = {
        "one permuted layer: an adapter is learned": (
            adapter(found["Photographs"]), "s-", "#b3261e"),
        "26 layers, with ImageNet's weights beside": (
            curve(found[ANCESTOR], found[ANCESTOR][2][0]), "o-", "#d9822b"),
        "26 layers, the best of three re-trainings": (
            best(*(curve(everywhere, row[0]) for row in everywhere[1:4])),
            "^-", "#2b6cb0"),
        "control: nothing stolen, ImageNet's weights": (
            curve(everywhere, "control from ImageNet weights"), "x--", "#555555"),
    }  # fmt: skip
    figure, panel = plt.subplots(figsize=(9, 4.2))
    for name, (points, style, colour) in lines.items():
        panel.plot(*zip(*points, strict=True), style, color=colour, label=name)
    for level, name in ((CORRECT_KEY, "correct key"), (FLOOR, "best constant answer")):
        panel.axhline(level, color="#222222", linewidth=0.8, linestyle=":")
        panel.text(64, level + 0.008, f"{name}: {level:.3f}", ha="right", fontsize=8)
    panel.set_xscale("log", base=2)
    panel.set(
        xlim=(0.9, 70), ylim=(0, 0.7), xticks=[1, 4, 16, 64],
        xlabel="labelled images that the thief has", ylabel="mIoU, CamVid",
    )  # fmt: skip
    panel.set_xticklabels(["1", "4", "16", "64"])
    panel.legend(fontsize=8, loc="upper center", ncol=2)
    return figure


# Who holds what


@dataclass(frozen=True)
class Holder:
    """Somebody in a deployment, what lies there, and what a thief of it gets."""

    name: str
    holds: str
    colour: str


@dataclass(frozen=True)
class Deployment:
    """One way to run a model: who holds what, and what travels between them."""

    name: str
    holders: tuple[Holder, Holder, Holder]
    travels: tuple[str, str]


DEPLOYMENTS = (
    Deployment(
        "A sealed file\non a server\nof yours",
        (
            Holder("owner", "keystore,\nplain model", ALL),
            Holder("server, disk", "sealed file", SAFE),
            Holder("server, memory", "key, plain model,\nimages", ALL),
        ),
        ("sealed file", "key, when it\nis opened"),
    ),
    Deployment(
        "A file issued\nto a customer",
        (
            Holder("owner", "keystore, ledger,\nplain model", ALL),
            Holder("customer, disk", "sealed file,\nhis identity", ALL),
            Holder("customer, memory", "plain model\nwith his mark", ALL),
        ),
        ("a file of his own", "his identity\nopens it"),
    ),
    Deployment(
        "The key at the\nclient, images\ntransformed",
        (
            Holder("owner", "keystore,\nplain model", ALL),
            Holder("client", "key, plain images,\nanswers", ALL),
            Holder("host", "protected model,\ntransformed images,\nanswers", PART),
        ),
        ("key,\nsealed file", "transformed\nimages;\nanswers back"),
    ),
    Deployment(
        "Split: a public\nbackbone at\nthe host",
        (
            Holder("owner", "keystore,\nprivate half", ALL),
            Holder("client", "private half,\nimages, answers", ALL),
            Holder("host", "public backbone,\nimages", SAFE),
        ),
        ("sealed\nprivate half", "images;\nfeatures\ncome back"),
    ),
)
LEGEND = {
    SAFE: "nothing of the owner's",
    PART: "what the method's attacks give",
    ALL: "the model, or a part that is worth it",
}


def holdings() -> plt.Figure:
    """One row for each deployment: three holders, and what travels between them."""
    rows = len(DEPLOYMENTS)
    figure, panel = plt.subplots(figsize=(9, 6.4))
    panel.set(xlim=(0, 9), ylim=(-0.45, rows))
    panel.axis("off")
    for row, one in enumerate(DEPLOYMENTS):
        middle = rows - row - 0.5
        panel.text(0, middle, one.name, va="center", fontsize=9, weight="bold")
        for place, holder in enumerate(one.holders):
            _box(panel, holder, 1.5 + 2.75 * place, middle)
        for place, words in enumerate(one.travels):
            left = 3.12 + 2.75 * place
            panel.annotate(
                "",
                (left + 1.06, middle),
                (left, middle),
                arrowprops={"arrowstyle": "->"},
            )
            panel.text(
                left + 0.53,
                middle + 0.07,
                words,
                ha="center",
                va="bottom",
                fontsize=8,
            )
    for place, (colour, words) in enumerate(LEGEND.items()):
        _patch(panel, 1.55 + 2.75 * place, -0.3, 0.25, 0.18, colour)
        panel.text(1.9 + 2.75 * place, -0.21, words, va="center", fontsize=8)
    panel.text(0, -0.21, "a thief of it gets", va="center", fontsize=8, weight="bold")
    return figure


def _box(panel: plt.Axes, holder: Holder, left: float, middle: float) -> None:
    _patch(panel, left, middle - 0.36, 1.55, 0.72, holder.colour)
    centre = left + 0.775
    panel.text(
        centre, middle + 0.28, holder.name, ha="center", va="top", fontsize=8,
        weight="bold",
    )  # fmt: skip
    panel.text(centre, middle - 0.1, holder.holds, ha="center", va="center", fontsize=8)


def _patch(
    panel: plt.Axes,
    left: float,
    bottom: float,
    width: float,
    height: float,
    colour: str,
) -> None:
    panel.add_patch(
        FancyBboxPatch(
            (left, bottom), width, height, boxstyle="round,pad=0.02",
            facecolor=colour, edgecolor="#444444", linewidth=0.8,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
