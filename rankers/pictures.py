"""Pictures that are right on a light and on a dark page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, SECOND = "#2f7fd6", "#d9660d"  # each 3:1 or more against white and near-black
# Stands for the page's text colour until the SVG is written.
INK = "#010203"
_STYLE = (
    "<style>svg{color:#1b1b1b;background:#fff}"
    "@media(prefers-color-scheme:dark){svg{color:#e8e8e8;background:#161616}}</style>"
)


def draw_svg(draw: Callable[[Any], None], *, title: str, size: tuple[float, float]) -> str:
    """Return a picture as an SVG file's text; the same picture is the same text.

    Args:
        draw: Draws into a matplotlib figure, in `FIRST`, `SECOND` and `INK`.
        title: What the picture is known by; makes its inner names.
        size: Width and height in inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r"(<svg[^>]*>)", lambda found: found[0] + _STYLE, text, count=1)
    return text.replace(INK, "currentColor")


def plain_axes(axes: Any) -> None:
    """Give axes the page's colour, and no line above."""
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side != "top")
        spine.set_color(INK)
