"""What was found, as tables, pictures and sentences: the same for every kind of page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING

from bench.attribution import attribution_table
from bench.capacity_curve import Capacity
from bench.compare import Comparison
from bench.crossover import Crossover, crossover_table
from bench.demo_report import Demo, auc_text, demo_table, size_text
from bench.pictures.capacity import capacity_picture
from bench.pictures.crossover import crossover_pictures
from bench.pictures.latency import latency_picture
from bench.pictures.pareto import pareto_picture
from bench.pictures.split import split_picture
from bench.pictures.timeline import timeline_picture
from bench.results_file import Runs
from bench.sweep import Sweep, sweep_table
from bench.tables import capacity_table, latency_table, load_text, names_apart, ratio_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.measurement import Measurement
    from bench.pictures.canvas import Drawn, Picture
    from bench.results_file import Found, ResultsFile
    from bench.tables import Table


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of a page.

    Attributes:
        title: Its heading.
        measurements: What it rests on.
        tables: In order; the first says the most.
        pictures: In order; the first says the most.
        drawings: Pictures that are made for a page alone, before the others.
        courses: The timelines of its runs, for a closer look.
        texts: What follows, in sentences.
    """

    title: str
    measurements: tuple[Measurement, ...]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...] = ()
    courses: tuple[Picture, ...] = ()
    texts: tuple[str, ...] = ()
    drawings: tuple[Drawn, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """What reproduces it."""
        return tuple(dict.fromkeys(each.command for each in self.measurements if each.command))

    @property
    def voids(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What cannot be believed, and why."""
        named = zip(names_apart(self.measurements), self.measurements, strict=True)
        return tuple((name, each.void) for name, each in named if each.void)


def chapters(files: Sequence[ResultsFile]) -> list[Chapter]:
    """Return a chapter for each file, single runs of all files first and together."""
    runs = [each.found for each in files if isinstance(each.found, Runs)]
    found: list[Found] = [each.found for each in files if not isinstance(each.found, Runs)]
    if runs:
        together = Runs(
            tuple(one for each in runs for one in each.measurements),
            next((each.splits for each in runs if each.splits), ()),
        )
        found.insert(0, together)
    return [chapter(each) for each in found]


@singledispatch
def chapter(found: Found) -> Chapter:
    """Return the chapter of something that was found."""
    raise TypeError(f"nothing is known of {type(found).__name__}")


@chapter.register
def _(found: Runs) -> Chapter:
    runs = found.measurements
    alike = max(_by_load(runs), key=len, default=[])
    splits = found.splits
    return Chapter(
        title="Runs" if len(runs) > 1 else "Run",
        measurements=runs,
        tables=(
            *(latency_table(each) for each in _by_load(runs)),
            *([attribution_table(splits)] if splits else []),
        ),
        pictures=(
            *([latency_picture(runs)] if runs else []),
            *([pareto_picture(alike)] if len(alike) > 1 else []),
            *([split_picture(splits)] if splits else []),
        ),
        courses=_courses(runs),
    )


@chapter.register
def _(found: Comparison) -> Chapter:
    runs = found.measurements
    return Chapter(
        title="Comparison: " + " and ".join(each.name for each in runs),
        measurements=runs,
        tables=(latency_table(runs), *([ratio_table(found.ratios)] if found.ratios else [])),
        pictures=(latency_picture(runs), *([pareto_picture(runs)] if len(runs) > 1 else [])),
        courses=_courses(runs),
    )


@chapter.register
def _(found: Capacity) -> Chapter:
    points = {each.rate_per_s: each.measurement for each in found.points}
    decisive = [points[rate] for rate in (found.rate_per_s, found.limit_per_s) if rate in points]
    table = capacity_table(found)
    return Chapter(
        title=table.title,
        measurements=found.measurements,
        tables=(table,),
        pictures=(capacity_picture(found), latency_picture(decisive)) if decisive else (),
        courses=_courses(decisive),
        texts=(f"{found.text}.",),
    )


@chapter.register
def _(found: Crossover) -> Chapter:
    return Chapter(
        title="Crossover: " + " and ".join(each.name for each in found.cells[0].measurements),
        measurements=found.measurements,
        tables=(crossover_table(found),),
        pictures=tuple(crossover_pictures(found)),
        texts=tuple(f"{each}." for each in found.texts),
    )


@chapter.register
def _(found: Sweep) -> Chapter:
    return Chapter(
        title="Serving settings",
        measurements=found.measurements,
        tables=(sweep_table(found),),
        pictures=(pareto_picture(found.measurements), latency_picture(found.measurements)),
        texts=tuple(f"{each}." for each in found.texts),
    )


@chapter.register
def _(found: Demo) -> Chapter:
    turns = found.comparison.measurements
    known = {
        each.measurement.name: ", ".join(
            text
            for text in (
                size_text(each.model_bytes),
                "" if each.auc is None else f"AUC {auc_text(each.auc)}",
            )
            if text
        )
        for each in found.variants
    }
    return Chapter(
        title=f"Demo: {found.about['ranker']}",
        measurements=found.measurements,
        tables=(
            demo_table(found),
            *(latency_table(each) for each in _by_load(found.measurements)),
            ratio_table(found.comparison.ratios),
        ),
        pictures=(latency_picture(found.measurements), pareto_picture(turns, known)),
        courses=_courses(found.measurements),
    )


def _by_load(runs: Sequence[Measurement]) -> Iterator[list[Measurement]]:
    for load in dict.fromkeys(load_text(each) for each in runs):
        yield [each for each in runs if load_text(each) == load]


def _courses(runs: Sequence[Measurement]) -> tuple[Picture, ...]:
    return tuple(timeline_picture(each) for each in runs if each.timeline is not None)
