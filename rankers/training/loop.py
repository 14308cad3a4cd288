"""The training loop: epochs, early stopping, and going on after an interruption."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.metrics import LESS_IS_BETTER
from rankers.training.distributed import process_group, share_of_environment
from rankers.training.options import Training, TrainingOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from rankers.data.log import RankingLog
    from rankers.data.shards import ShardedLog
    from rankers.training.batches import Batches
    from rankers.training.learner import Learner
    from rankers.training.progress import Progress
    from rankers.training.shard_batches import ShardBatches

SAVE_EVERY_S = 30.0
_CURVE_POINTS = 50  # of each epoch


def train(
    module_of: Callable[[], nn.Module],
    log: RankingLog | ShardedLog,
    options: TrainingOptions | None = None,
    *,
    resume: Path | None = None,
    save_every_s: float = SAVE_EVERY_S,
) -> tuple[nn.Module, Training]:
    """Train a module on a log, with a progress bar on standard error.

    The same log, options and thread count give the same weights, interrupted or not. Under
    ``torchrun`` all processes train together and return the same.

    Args:
        module_of: Makes the untrained module. It has ``logits(**features)`` beside ``forward``:
            the score before any sigmoid, on which losses are exact where a probability has rounded.
        log: Labelled requests, in memory or in shards; a part is held out.
        options: How to train.
        resume: A file that keeps the state of an unfinished training: written now and then, gone on
            from if it is there and is of this module, log and options, and removed in the end.
        save_every_s: How often it is written.

    Returns:
        The trained module on the CPU, in evaluation mode, and what training came to.

    Raises:
        UserError: The log is too small to split, or the device is not there.
    """
    import torch

    from rankers.training.judging import best_and_chance, judge_module
    from rankers.training.learner import Learner
    from rankers.training.parts import cut_log
    from rankers.training.progress import Progress
    from rankers.training.resume import Interrupted

    options = options or TrainingOptions()
    check_device(options.device)
    started = time.perf_counter()
    share = share_of_environment()
    with torch.random.fork_rng(devices=[]), process_group(share, options.device):
        torch.manual_seed(options.seed)
        module = module_of().to(options.device)
        parts = cut_log(log, options, share)
        steps = options.epochs * len(parts.batches)
        learner = Learner(module, options, steps, share)
        # Who reads the data changes nothing.
        belongs_to = (log, asdict(options) | {"workers": 0}, module)
        interrupted = Interrupted.of(
            resume, belongs_to, every_s=save_every_s, writes=share.rank == 0
        )
        run = _Run(options, parts.batches, learner, parts.judged_on, _Course(), interrupted)
        with Progress(steps) as progress:
            run.all_epochs(progress)
        learner.finish()
        if options.patience is not None and run.course.weights is not None:
            module.load_state_dict(run.course.weights)
        interrupted.remove()
    module = module.cpu().eval()
    best, chance = best_and_chance(parts.held_out, options.metric)
    return module, Training(
        evaluation=parts.held_out.requests,
        quality=judge_module(module, parts.held_out, options.metric),
        best=best,
        chance=chance,
        epochs=tuple(run.course.epochs),
        curve=tuple(run.course.curve),
        kept=run.course.best if options.patience is not None else len(run.course.epochs) - 1,
        rows=parts.rows,
        seconds=time.perf_counter() - started,
        options=options,
        seen=parts.batches.seen(),
        calibration=parts.calibration,
    )


def check_device(device: str) -> None:
    """Check that a device is there.

    Raises:
        UserError: It is not.
    """
    import torch

    from rankers.errors import UserError

    if device not in {"cpu", "cuda"}:
        raise UserError(f"unknown device {device!r}; it is 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch sees no GPU here")


@dataclass
class _Course:
    """How far a training has come.

    Attributes:
        epoch: Under way, from 0.
        step: Done in it.
        losses: Of those steps.
        epochs: What was noted after each finished epoch.
        curve: Steps and the mean loss of those before each, since the last.
        best: The epoch with the best metric.
        weights: The module's after that epoch; None before the first.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    epochs: list[dict[str, float | None]] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)
    best: int = 0
    weights: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Run:
    """One call of `train`."""

    options: TrainingOptions
    batches: Batches | ShardBatches
    learner: Learner
    judged_on: RankingLog
    course: _Course
    interrupted: Any

    def all_epochs(self, progress: Progress) -> None:
        """Train from where the last attempt stood to the end."""
        saved = self.interrupted.load()
        if saved is not None:
            self.learner.restore(saved["learner"])
            self.batches.restore(saved["batches"])
            vars(self.course).update(saved["course"])
            progress.resume(self.course.epoch * len(self.batches) + self.course.step)
        while self.course.epoch < self.options.epochs:
            self._epoch(progress)
            if self._has_no_hope():
                return

    def _epoch(self, progress: Progress) -> None:
        from rankers.training.judging import judge_module

        course, module = self.course, self.learner.module
        module.train()
        for batch in self.batches.epoch(course.epoch, start=course.step):
            course.losses.append(self.learner.step(batch))
            course.step += 1
            progress.advance(course.losses[-1])
            self.interrupted.save_if_due(self._state)
        metric = self.options.metric
        found = judge_module(module, self.judged_on, metric).value(metric)
        self._note_losses()
        course.epochs.append({"loss": float(np.mean(course.losses)), metric: found})
        if course.weights is None or self._better(found, course.epochs[course.best]):
            course.best = course.epoch
            if self.options.patience is not None:
                course.weights = copy.deepcopy(module.state_dict())
        course.epoch, course.step, course.losses = course.epoch + 1, 0, []
        self.interrupted.save_if_due(self._state)

    def _note_losses(self) -> None:
        """Thin an epoch's losses out to what a picture shows."""
        course = self.course
        before = course.epoch * len(self.batches)
        pieces = np.array_split(np.array(course.losses), min(_CURVE_POINTS, len(course.losses)))
        ends = np.cumsum([len(each) for each in pieces]) + before
        course.curve += [
            (int(end), float(each.mean())) for end, each in zip(ends, pieces, strict=True)
        ]

    def _better(self, found: float | None, best: dict[str, float | None]) -> bool:
        before = best[self.options.metric]
        if found is None or before is None:
            return before is None
        return found < before if self.options.metric in LESS_IS_BETTER else found > before

    def _has_no_hope(self) -> bool:
        patience = self.options.patience
        return patience is not None and self.course.epoch - 1 - self.course.best >= patience

    def _state(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state(),
            "course": vars(self.course),
            "batches": self.batches.state(),
        }
