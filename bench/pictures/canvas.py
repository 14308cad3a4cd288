"""How every picture looks, and what it is written as: SVG for a page of HTML, PNG with a ground.

A picture is a function from an ink colour to a figure. In a page the ink is the page's own text
colour; a PNG is drawn twice, for a light page and for a dark one.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

# Each at least 3:1 against white and against near-black, and told apart by the colour-blind too;
# the line styles and markers differ as well.
COLOURS = ("#2f7fd6", "#d9660d", "#17946a", "#c7509b", "#8a68d0", "#9a7b13")
STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = "osD^vP"
ALARM = "#d2453b"

# Of GitHub's pages; also those of the HTML report.
GROUNDS = {"light": ("#ffffff", "#1b1f24"), "dark": ("#14171b", "#e6e9ed")}

# Stands for the page's text colour until the SVG is written.
_INK = "#010203"
_DPI = 160
# Characters of a legend that the width has room for.
_LONGEST = 72


class Drawn(Protocol):
    """What a page of HTML can show."""

    @property
    def name(self) -> str:
        """Of its kind."""

    @property
    def title(self) -> str:
        """Above it."""

    @property
    def caption(self) -> str:
        """Below it: how to read it."""

    def svg(self, salt: str) -> str:
        """Return one ``<svg>`` element; names inside it come from the salt."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Something to look at.

    Attributes:
        name: Of its kind: ``latency``, ``capacity``, …; part of a file's name.
        title: Above it.
        caption: Below it: how to read it.
        draw: Takes the colour of text and axes, returns the figure.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[str], Figure]

    def svg(self, salt: str) -> str:
        """Return one ``<svg>`` element, whose text has the page's colour and font.

        Args:
            salt: Different for each picture of a page: the names of their clip paths come from it.
        """
        import matplotlib as mpl

        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
            buffer = io.StringIO()
            figure = self.draw(_INK)
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return _inline(buffer.getvalue(), label=self.title)

    def svg_file(self) -> str:
        """Return the picture with its title as a file of its own, right on light and dark pages."""
        style = (
            "<style>svg{{color:{1};background:{0}}}"
            "@media(prefers-color-scheme:dark){{svg{{color:{3};background:{2}}}}}</style>"
        ).format(*GROUNDS["light"], *GROUNDS["dark"])
        titled = replace(self, draw=lambda ink: _titled(self.draw(ink), self.title, ink))
        return re.sub(r"(<svg[^>]*>)", lambda x: x[0] + style, titled.svg(self.title), count=1)

    def png(self, ground: str, metadata: dict[str, str]) -> bytes:
        """Return the picture with its title on a ground of `GROUNDS`.

        Args:
            ground: ``light`` or ``dark``.
            metadata: Texts to keep in the file.
        """
        paper, ink = GROUNDS[ground]
        figure = _titled(self.draw(ink), self.title, ink)
        figure.set_facecolor(paper)
        for axes in figure.axes:
            axes.set_facecolor("none")
        buffer = io.BytesIO()
        # Without matplotlib's version in it, the same results give the same bytes for longer.
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None} | metadata)
        return buffer.getvalue()


def _titled(figure: Figure, title: str, ink: str) -> Figure:
    figure.suptitle(title, color=ink, fontsize=11, x=0.012, ha="left")
    return figure


def new_figure(height: float = 4.4) -> Figure:
    """Return an empty figure, 8 wide."""
    from matplotlib.figure import Figure

    return Figure(figsize=(8, height), layout="constrained")


def dress(axes: Any, ink: str, *, x: str, y: str) -> None:
    """Label the axes, with units, and take away what is not needed."""
    axes.set_xlabel(x, color=ink)
    axes.set_ylabel(y, color=ink)
    axes.tick_params(colors=ink, which="both")
    axes.grid(visible=True, color=ink, alpha=0.15, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(ink)


def log_axis(axis: Any) -> None:
    """Give a logarithmic axis plain numbers: at 1, 2 and 5, or as many as suit its length."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = sorted(axis.get_view_interval())
    ratio = high / low if low > 0 else 10.0
    if ratio < 5:
        axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]))
    else:
        steps = (1.0,) if ratio > 10**4 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def count_axis(axis: Any) -> None:
    """Give a linear axis numbers as the tables write them: ``12,000``."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, _: int) -> str:
    return f"{value:,.6g}"


def legend(axes: Any, ink: str, **where: Any) -> None:
    """Say which line is which."""
    if axes.get_legend_handles_labels()[0]:
        options = {"loc": "best"} | where
        axes.legend(frameon=False, labelcolor=ink, fontsize=9, handlelength=3.2, **options)


def legend_above(axes: Any, ink: str) -> None:
    """Say which line is which above the axes, where no line is; long names are cut."""
    handles, labels = axes.get_legend_handles_labels()
    shown = [text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for text in labels]
    longest = max(map(len, shown), default=1)
    if handles:
        axes.legend(
            handles, shown, frameon=False, labelcolor=ink, fontsize=9, handlelength=3.2,
            loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2,
            ncols=max(1, min(4, _LONGEST // (longest + 8))),
        )  # fmt: skip


def strike_out(axes: Any, points: Sequence[tuple[float, float]], ink: str) -> None:
    """Cross out points of void runs, and say so in the legend."""
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, linestyle="none", marker="x", markersize=9, color=ink, label="void run")


def _inline(svg: str, *, label: str) -> str:
    """Make a file of SVG an element: no prolog, the page's colour and font, scaling with it."""
    from html import escape

    body = svg[svg.index("<svg") :]
    body = re.sub(r" font-family: [^;]*;", "", body)
    body = re.sub(r"(font: (?:[a-z]+ )*[0-9.]+px)[^;\"]*", r"\1 sans-serif", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = body.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    return body.replace(_INK, "currentColor")
