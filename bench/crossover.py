"""Which of several targets wins at which number of candidates, and at which rate.

No runtime is fastest everywhere: one with little overhead wins at a few candidates, one with good
kernels at hundreds. Each cell of the grid is measured by itself, targets in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.compare import COMPARED_QUANTILES
from bench.latencies import percentile_label
from bench.measure import measure_rounds, round_seconds
from bench.measurement import Measurement
from bench.merging import merge_measurements
from bench.tables import Table
from bench.winners import Winner, find_winner, rounds_that_tell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.measure import Load
    from bench.targets import Target
    from bench.workload import Workload


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of candidates under one load.

    Attributes:
        candidates: N of every request.
        rate_per_s: Of the Poisson arrivals; None for a closed loop.
        measurements: One for each target.
        winners: By percentile; a percentile with too few requests is left out.
    """

    candidates: int
    rate_per_s: float | None
    measurements: tuple[Measurement, ...]
    winners: tuple[Winner, ...]

    def winner(self, quantile: float) -> Winner | None:
        """Return what wins at a percentile."""
        return next((each for each in self.winners if each.quantile == quantile), None)


@dataclass(frozen=True, slots=True)
class Crossover:
    """The whole grid, in the order of loads and then of candidates."""

    cells: tuple[Cell, ...]

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Those of all cells."""
        return tuple(each for cell in self.cells for each in cell.measurements)

    @property
    def texts(self) -> tuple[str, ...]:
        """Say in a sentence for each load and percentile where the winner changes."""
        found = []
        for rate in dict.fromkeys(each.rate_per_s for each in self.cells):
            for quantile in COMPARED_QUANTILES:
                said = self._sentence(rate, quantile)
                if said:
                    found.append(f"{load_label(rate)}, {percentile_label(quantile)}: {said}")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return the grid as JSON-ready data."""
        return {
            "cells": [
                {
                    "candidates": each.candidates,
                    "rate_per_s": each.rate_per_s,
                    "winners": [winner.to_json() for winner in each.winners],
                    "measurements": [one.to_json() for one in each.measurements],
                }
                for each in self.cells
            ],
            "texts": list(self.texts),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Crossover:
        """Read what `to_json` wrote."""
        return cls(
            tuple(
                Cell(
                    candidates=each["candidates"],
                    rate_per_s=each["rate_per_s"],
                    measurements=tuple(map(Measurement.from_json, each["measurements"])),
                    winners=tuple(map(Winner.from_json, each["winners"])),
                )
                for each in data["cells"]
            )
        )

    def _sentence(self, rate: float | None, quantile: float) -> str:
        """Name runs of candidates with the same sure winner."""
        runs: list[tuple[str, int, int]] = []
        for cell in self.cells:
            winner = cell.winner(quantile)
            if cell.rate_per_s != rate or winner is None or not winner.sure:
                continue
            if runs and runs[-1][0] == winner.fastest:
                runs[-1] = (winner.fastest, runs[-1][1], cell.candidates)
            else:
                runs.append((winner.fastest, cell.candidates, cell.candidates))
        return "; ".join(
            f"{name} wins at N = {first}" if first == last else f"{name} from {first} to {last}"
            for name, first, last in runs
        )


def find_crossover(
    targets: Sequence[Target],
    workload_of: Callable[[int], Workload],
    load: Load,
    *,
    candidates: Sequence[int],
    rates_per_s: Sequence[float | None],
    rounds: int | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Crossover:
    """Measure targets in turn at every number of candidates and every rate.

    Args:
        targets: Two or more.
        workload_of: Makes the requests of N candidates.
        load: Of each cell; its rate is replaced.
        candidates: The numbers N.
        rates_per_s: Of Poisson arrivals; None for the closed loop.
        rounds: Of each cell; see `bench.measure.measure_interleaved`.
        command: What reproduces the measurements.
        say: Is told of each cell before it begins.

    Raises:
        UserError: A target does not score, or the rounds are too few to tell a winner.
    """
    names = [target.name for target in targets]
    rounds = rounds_that_tell(load, len(targets), rounds)
    cells = []
    for rate in rates_per_s:
        for count in candidates:
            say(f"N = {count}, {load_label(rate)}")
            parts = measure_rounds(
                targets,
                workload_of(count),
                replace(load, rate_per_s=rate),
                rounds=rounds,
                command=command,
            )
            times = [[round_seconds(part) for part in each] for each in parts]
            winners = (find_winner(times, names, quantile) for quantile in COMPARED_QUANTILES)
            cells.append(
                Cell(
                    candidates=count,
                    rate_per_s=rate,
                    measurements=tuple(merge_measurements(each) for each in parts),
                    winners=tuple(each for each in winners if each is not None),
                )
            )
    return Crossover(tuple(cells))


def crossover_table(found: Crossover) -> Table:
    """Return one row for each cell: the targets' medians, and the winners."""
    from bench.tables import percentile_text

    names = [each.name for each in found.cells[0].measurements]
    labels = [percentile_label(each) for each in COMPARED_QUANTILES]
    return Table(
        title="Crossover: p50 in ms with its interval, and what wins",
        columns=(
            "load, N",
            *names,
            *(f"wins at {label}" for label in labels),
        ),
        rows=tuple(
            (
                f"{load_label(cell.rate_per_s)}, N = {cell.candidates}",
                *(
                    percentile_text(each.percentile(0.5)) + (" (void)" if each.void else "")
                    for each in cell.measurements
                ),
                *(
                    "-" if (winner := cell.winner(q)) is None else winner.text
                    for q in COMPARED_QUANTILES
                ),
            )
            for cell in found.cells
        ),
        note="Wins: all others were shown to be slower; in parentheses, how many times as long the "
        "next takes. -: too few requests for that percentile.",
    )


def load_label(rate_per_s: float | None) -> str:
    """Return such as ``closed loop`` or ``50/s``."""
    return "closed loop" if rate_per_s is None else f"{rate_per_s:g}/s"
