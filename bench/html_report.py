"""A self-contained page of HTML: tables, a latency plot, the machine. Nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plots import latency_svg
from bench.tables import environment_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measurement import Measurement
    from bench.tables import Table


def html_report(title: str, measurements: Sequence[Measurement], tables: Sequence[Table]) -> str:
    """Return the page.

    Args:
        title: Its heading.
        measurements: For the plot, the list of what is void, the machines and the commands.
        tables: Shown first, in order. `bench.tables` makes those of measurements.
    """
    from importlib.resources import files

    import jinja2

    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string((files("bench") / "report.html.j2").read_text())
    return template.render(
        title=title,
        tables=tables,
        # The only markup that is not escaped. It comes from matplotlib, which escapes its texts.
        plot=latency_svg(measurements) if measurements else "",
        voids=[(each.name, each.void) for each in measurements if each.void],
        environments=list(
            dict.fromkeys(environment_text(each.environment) for each in measurements)
        ),
        commands=list(dict.fromkeys(each.command for each in measurements if each.command)),
        made=max((each.timestamp_utc for each in measurements), default=""),
    )
