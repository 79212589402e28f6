"""A few SVG elements: tags, text, and a vertical scale for fractions.

Colours and fonts come from the page's style sheet, by class, so that a chart follows
light, dark and print. Everything is escaped.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from markupsafe import Markup

WIDTH, HEIGHT = 440, 300  # user units; small, so that text stays legible at 360 px
LEFT, RIGHT, TOP, BOTTOM = 40, WIDTH - 36, 28, HEIGHT - 40  # the plot's edges
TICK_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)  # between two grid lines
MAX_TICKS = 6


def tag(element: str, content: str = "", **attributes: str | float) -> Markup:
    """Return one element. Numbers get one decimal; underscores in names become hyphens.

    Example:
        >>> tag("text", "a < b", x=1, text_anchor="end")
        Markup('<text x="1.0" text-anchor="end">a &lt; b</text>')
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _value(value))
        for name, value in attributes.items()
    )
    template = Markup("<{0}{1}>{2}</{0}>")  # escapes its arguments, not itself
    return template.format(element, written, content)


def label(x: float, y: float, words: str, anchor: str, style: str = "") -> Markup:
    """Return text at a point; `anchor` is start, middle or end."""
    return tag("text", words, class_=style, x=x, y=y, text_anchor=anchor)


def dot(x: float, y: float, style: str, radius: float = 2.4) -> Markup:
    """Return a data point."""
    return tag("circle", class_=f"dot {style}", cx=x, cy=y, r=radius)


def chart(name: str, title: str, words: str, body: Iterable[Markup]) -> Markup:
    """Return a whole chart, with its title and its description."""
    content = [
        tag("title", title, id=f"{name}-title"),
        tag("desc", words, id=f"{name}-words"),
        *body,
    ]
    return tag(
        "svg",
        Markup("").join(content),
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-title {name}-words",
    )


@dataclass(frozen=True)
class Scale:
    """A scale of fractions on the vertical axis, from 0 at the bottom to `top`.

    Attributes:
        top: The largest fraction shown.
        step: The distance of two grid lines.
        name: The name of the fractions, at the head of the axis.
    """

    top: float
    step: float
    name: str

    @classmethod
    def over(cls, values: Iterable[float], name: str) -> Self:
        """Return the finest scale that shows every value with few grid lines."""
        highest = max(values, default=0.0)
        for step in TICK_STEPS:
            ticks = min(int(highest / step) + 1, round(1 / step))  # a score is ≤ 1
            if ticks <= MAX_TICKS:
                break
        return cls(ticks * step, step, name)

    def y(self, value: float) -> float:
        """Return the position of a value."""
        return BOTTOM - (BOTTOM - TOP) * value / self.top

    def grid(self) -> list[Markup]:
        """Draw the grid lines, their values and the axis' name."""
        values = [index * self.step for index in range(round(self.top / self.step) + 1)]
        return [
            *(self._line(value, "grid") for value in values),
            *(
                label(LEFT - 6, self.y(value) + 4, f"{value:.3g}", "end")
                for value in values
            ),
            label(2, 11, self.name, "start"),
        ]

    def level(self, value: float, name: str, *, inside: bool = False) -> Markup:
        """Draw a dashed line across the chart, with its name at the right or inside."""
        y = self.y(value)
        if inside:
            words = label(LEFT + 4, y - 4, name, "start", "note")
        else:
            words = label(RIGHT + 5, y + 4, name, "start", "note")
        return self._line(value, "level") + words

    def _line(self, value: float, style: str) -> Markup:
        y = self.y(value)
        return tag("line", class_=style, x1=LEFT, x2=RIGHT, y1=y, y2=y)


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}"
