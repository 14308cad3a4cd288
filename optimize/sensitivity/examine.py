"""Sensitivity from end to end: capture, try, choose, write."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optimize.artifact import Artifact
    from optimize.sensitivity.budget import Budget
    from optimize.sensitivity.report import Sensitivity
    from optimize.sensitivity.trials import Kind
    from optimize.tables.quantize import Width
    from rankers.ranker import Ranker

FILE, PICTURE = "sensitivity.json", "sensitivity.svg"


@dataclass(frozen=True)
class Options:
    """What is asked.

    Attributes:
        kinds: What is tried.
        widths: At which tables are.
        requests: The most that are scored.
        min_rows: Tables of fewer rows are left alone.
        budget: Of a joint choice; None for none.
        recipe: Where the choice is written as a recipe; None for nowhere.
        measured_at: The number of candidates at which layers are measured in int8; None if they are
            not.
    """

    kinds: tuple[Kind, ...]
    widths: tuple[Width, ...]
    requests: int = 256
    min_rows: int = 64
    budget: Budget | None = None
    recipe: Path | None = None
    measured_at: int | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and not {"table", "layer"} & {*self.kinds}:
            raise UserError("a budget chooses among tables and layers: let --only name one of them")
        if self.recipe is not None and self.budget is None:
            raise UserError("--write-recipe writes what a budget chooses: give one with --budget")
        if self.recipe is not None and self.recipe.suffix != ".toml":
            raise UserError(f"--write-recipe is {str(self.recipe)!r}; expected a .toml file")
        if self.measured_at is not None and "layer" not in self.kinds:
            raise UserError("--measure measures layers: let --only name them")


def examine(
    captured: Artifact,
    options: Options,
    store: Path,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Sensitivity:
    """Try everything that was asked for, and choose if there is a budget.

    Args:
        captured: Of `optimize.capture.capture`, with calibration requests.
        options: What is asked.
        store: Keeps what is made for measuring.
        progress: Is told what was tried.

    Raises:
        UserError: There are no calibration requests, or the budget cannot be measured on them.
    """
    from optimize.sensitivity.greedy import choose
    from optimize.sensitivity.recipe_file import write_recipe
    from optimize.sensitivity.report import Sensitivity
    from optimize.sensitivity.speed import measure_layers
    from optimize.sensitivity.subject import open_subject
    from optimize.sensitivity.trials import run_trials, with_speeds

    budget = options.budget
    metric = None if budget is None else budget.metric
    subject = open_subject(
        captured,
        requests=options.requests,
        min_rows=options.min_rows,
        metrics=() if metric is None else (metric,),
    )
    if budget is not None:
        budget.check(subject.requests, subject.signature.score)
    trials = run_trials(subject, options.kinds, options.widths, progress=progress)
    if options.measured_at is not None:
        speeds = measure_layers(
            captured,
            subject.layers,
            subject.requests,
            store,
            candidates=options.measured_at,
            progress=progress,
        )
        trials = with_speeds(trials, speeds)
    choice = None if budget is None else choose(subject, trials, budget)
    if choice is not None and options.recipe is not None:
        write_recipe(choice, captured, subject.layers, store, options.recipe)
    return Sensitivity(
        ranker=subject.name,
        requests=len(subject.requests),
        rows=subject.requests.rows,
        labels=subject.requests.labels is not None,
        trials=tuple(trials),
        left=subject.left,
        choice=choice,
    )


@contextmanager
def captured_in(ranker: Ranker, out: Path | None) -> Iterator[tuple[Artifact, Path]]:
    """Capture a ranker into the cache of a folder, or into one that goes again.

    Raises:
        UserError: It has no calibration requests, or cannot be captured.
    """
    from optimize.capture import capture
    from optimize.sensitivity.subject import calibration_missing

    if ranker.calibration is None:  # before anything takes time
        raise calibration_missing(ranker.name)
    with tempfile.TemporaryDirectory(prefix="sensitivity-") as aside:
        store = Path(aside) if out is None else out / ".cache"
        yield capture(ranker, store, candidates=(1, 37)), store


def write(found: Sensitivity, folder: Path) -> list[Path]:
    """Write `FILE` and `PICTURE` into a folder."""
    from optimize.sensitivity.picture import sensitivity_picture
    from rankers.files import write_atomically

    picture = sensitivity_picture(found).svg_file()
    write_atomically(folder / FILE, json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    write_atomically(folder / PICTURE, picture)
    return [folder / FILE, folder / PICTURE]
