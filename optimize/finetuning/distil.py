"""Fine-tuning by distillation: a changed program learns to score as the original did.

Labels are not needed: the teacher's scores are the targets, on the calibration requests. Requests
that judge a ranker are no part of it. The student is left at its best on requests that no step
learnt from, so it never ends further from its teacher than it began.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optimize.finetuning.losses import check_labels, divergence, label_loss
from optimize.finetuning.settings import DistilReport, DistilSettings
from optimize.finetuning.splitting import drawn_batches, split_requests
from optimize.finetuning.trainable import trainable_parameters
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from optimize.artifact import Manifest
    from rankers.requests import Array, RequestBatch

_CHUNK_ROWS = 8192
_LOOKS = 20


def distil(
    student: nn.Module,
    teacher: Callable[..., Any],
    requests: RequestBatch,
    manifest: Manifest,
    settings: DistilSettings | None = None,
    *,
    taught: Manifest | None = None,
) -> DistilReport:
    """Fine-tune a student in place to score as its teacher does.

    Args:
        student: From columns by position (``manifest.inputs``) to scores, such as
            `optimize.finetuning.trainable.trainable_module` of a program. Its mode is left alone.
        teacher: Called alike, the program before it was changed. It scores each request once,
            before the first step.
        requests: Calibration requests, with or without labels.
        manifest: Says the layout (flat, or each user once), and what a score means.
        settings: By default `DistilSettings()`.
        taught: Says what the teacher takes, where that is more than the student does.

    Returns:
        What was reached. The same seed, requests, threads and machine give the same bytes.

    Raises:
        UserError: There are too few requests, no labels where they are asked for, nothing to
            train, or scores that are not finite.
    """
    settings = settings or DistilSettings()
    learn, stayed = trainable_parameters(
        student, frozen=settings.frozen, train_tables=settings.train_tables
    )
    with _deterministic():
        lesson = _prepare(teacher, requests, manifest, settings, taught or manifest)
        with _only_learning(student, learn):
            return _train(student, learn, stayed, lesson, settings)


@dataclass(frozen=True)
class _Lesson:
    """What is learnt: requests and the scores that the teacher gave them.

    Attributes:
        requests: All of them.
        targets: By request, float32 ``[N]``.
        scale: The spread of all targets.
        learnt_from: Numbers of requests.
        held_out: Numbers of requests.
        manifest: Of the student.
        labels_weight: As `DistilSettings` has it.
    """

    requests: RequestBatch
    targets: Tensor
    scale: float
    learnt_from: Array
    held_out: Array
    manifest: Manifest
    labels_weight: float

    def loss(self, student: nn.Module, chosen: Array) -> tuple[Tensor, int]:
        """Return the mean loss over the rows of some requests, and how many rows they have."""
        batch = self.requests.select(chosen)
        scores = _scores(student(*_tensors(batch, self.manifest)))
        kind = self.manifest.signature.score
        rows = np.concatenate(
            [np.arange(*self.requests.offsets[each : each + 2]) for each in chosen]
        )
        loss = divergence(scores, self.targets[torch.from_numpy(rows)], kind, scale=self.scale)
        if self.labels_weight and batch.labels is not None:
            request = torch.from_numpy(np.repeat(np.arange(len(batch)), batch.candidates))
            labels = torch.from_numpy(batch.labels)
            loss = loss + self.labels_weight * label_loss(scores, labels, request, kind)
        return loss, len(rows)

    def held_out_loss(self, student: nn.Module) -> float:
        """Return the mean loss over all rows that are held out."""
        total, count = 0.0, 0
        limit = max(1, _CHUNK_ROWS // max(1, int(self.requests.candidates.max())))
        with torch.no_grad():
            for start in range(0, len(self.held_out), limit):
                loss, rows = self.loss(student, self.held_out[start : start + limit])
                total, count = total + float(loss) * rows, count + rows
        return total / count


def _prepare(
    teacher: Callable[..., Any],
    requests: RequestBatch,
    manifest: Manifest,
    settings: DistilSettings,
    taught: Manifest,
) -> _Lesson:
    learnt_from, held_out = split_requests(requests, settings.held_out, settings.seed)
    if settings.labels_weight:
        labels = None if requests.labels is None else torch.from_numpy(requests.labels)
        check_labels(labels, manifest.signature.score)
    with torch.no_grad():
        parts = [
            _scores(teacher(*columns)).float() for columns in columns_in_parts(requests, taught)
        ]
    targets = torch.cat(parts)
    if not bool(torch.isfinite(targets).all()):
        raise UserError("fine-tuning: the teacher gives scores that are not finite")
    return _Lesson(
        requests,
        targets,
        float(targets.std(correction=0)),
        learnt_from,
        held_out,
        manifest,
        settings.labels_weight,
    )


def _train(
    student: nn.Module,
    learn: Mapping[str, nn.Parameter],
    stayed: dict[str, str],
    lesson: _Lesson,
    settings: DistilSettings,
) -> DistilReport:
    """Take steps until they no longer help, and go back to the best."""
    # No weight decay: it would pull the student from where its teacher is.
    optimizer = torch.optim.AdamW(learn.values(), settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, settings.steps))
    batches = drawn_batches(lesson.learnt_from, settings.batch_requests, settings.seed)
    course = [(0, _finite(lesson.held_out_loss(student)))]
    best, kept = course[0], _copied(learn)
    every = max(1, settings.steps // _LOOKS)
    step = 0
    while step < settings.steps:
        optimizer.zero_grad(set_to_none=True)
        loss, _ = lesson.loss(student, next(batches))
        _finite(loss.item())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        step += 1
        if step % every == 0 or step == settings.steps:
            course.append((step, lesson.held_out_loss(student)))
            if course[-1][1] < best[1]:
                best, kept = course[-1], _copied(learn)
            if len(course) - 1 - course.index(best) >= settings.patience:
                break
    _restore(learn, kept)
    return DistilReport(
        loss_before=course[0][1],
        loss_after=best[1],
        best_step=best[0],
        steps=step,
        course=tuple(course),
        learnt_from=len(lesson.learnt_from),
        held_out=len(lesson.held_out),
        trained=tuple(learn),
        stayed=stayed,
    )


def _rate(steps: int, step: int) -> float:
    """Return a step's share of the highest learning rate, from 0 to 1.

    Adam's first steps are as long as any, however near the student is; so they begin short.
    """
    rising = (step + 1) / max(1, steps // 10)
    return min(1.0, rising) * (1 - step / max(1, steps))


def columns_in_parts(requests: RequestBatch, manifest: Manifest) -> Iterator[list[Tensor]]:
    """Yield what a program of a layout takes, by position, for some requests after others."""
    for each in requests.chunks(_CHUNK_ROWS):
        yield _tensors(each, manifest)


def _tensors(requests: RequestBatch, manifest: Manifest) -> list[Tensor]:
    columns = manifest.columns_of(requests)
    return [torch.from_numpy(np.ascontiguousarray(columns[name])) for name in manifest.inputs]


def _scores(found: Any) -> Tensor:
    """Return a module's scores, ``[rows]``; graphs that were rewritten answer with a tuple."""
    scores: Tensor = found[0] if isinstance(found, tuple | list) else found
    return scores.reshape(-1)


def _finite(loss: float) -> float:
    if not np.isfinite(loss):
        raise UserError(
            f"fine-tuning: the loss is {loss}: the student gives scores that are not finite, or "
            "learning_rate is too high"
        )
    return loss


def _copied(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in parameters.items()}


def _restore(parameters: Mapping[str, nn.Parameter], kept: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, each in parameters.items():
            each.copy_(kept[name])
            each.grad = None


@contextmanager
def _only_learning(student: nn.Module, learn: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Ask for gradients of what learns alone; what was asked for before is again afterwards."""
    before = {each: each.requires_grad for each in student.parameters()}
    learning = {id(each) for each in learn.values()}
    try:
        for each in before:
            each.requires_grad_(id(each) in learning)
        yield
    finally:
        for each, asked in before.items():
            each.requires_grad_(asked)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Have sums over rows be made in one order: those of gathers would not be, with threads."""
    before: Any = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before, warn_only=warns)
