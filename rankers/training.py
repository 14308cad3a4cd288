"""Training: from a click log to a ranker that is judged on requests it has not seen."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rankers.data.log import split_log
from rankers.errors import UserError
from rankers.quality import Quality, quality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from rankers.data.log import RankingLog
    from rankers.requests import Array, RequestBatch

_SCORING_ROWS = 4096


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train.

    Attributes:
        epochs: Passes over the training rows. One is best on the synthetic log, as it is on
            Criteo's: in the second pass rare IDs are learnt by heart (Zhang et al., Towards
            Understanding the Overfitting Phenomenon of Deep CTR Models, CIKM 2022).
        batch_rows: Rows of one step.
        learning_rate: Of Adam, for the dense layers; falls linearly to 0.
        table_learning_rate: Of Adagrad, for the embedding tables; falls likewise. Adagrad keeps a
            step size for each weight, so that rare IDs still learn, and touches only the rows of a
            batch (Duchi et al., JMLR 2011).
        held_out: The share of requests held out to evaluate on.
        split_by: ``time`` holds out the last requests, ``request`` a seeded draw of them.
        seed: Of the split, the weights and the order of rows.
    """

    epochs: int = 1
    batch_rows: int = 2048
    learning_rate: float = 2e-3
    table_learning_rate: float = 0.04
    held_out: float = 0.2
    split_by: str = "time"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_rows", "learning_rate", "table_learning_rate"):
            value = getattr(self, name)
            if not value > 0:
                raise UserError(f"{name} is {value}; expected a number above 0")


@dataclass(frozen=True, slots=True)
class Training:
    """What training came to.

    Attributes:
        evaluation: The requests that were held out.
        quality: Of the trained module on them.
        best_auc: The AUC of the true click probability on them, which no ranker beats but by luck;
            None where it is not known.
        epochs: For each epoch, its mean training loss in nats and the AUC after it.
        rows: How many rows were trained on.
        seconds: How long it took, evaluation included.
    """

    evaluation: RequestBatch
    quality: Quality
    best_auc: float | None
    epochs: tuple[dict[str, float | None], ...]
    rows: int
    seconds: float
    options: TrainingOptions

    @property
    def closed(self) -> float | None:
        """The share of the way from AUC 0.5 to the best reachable that was gone."""
        if self.best_auc is None or self.quality.auc is None:
            return None
        return (self.quality.auc - 0.5) / (self.best_auc - 0.5)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the requests as JSON-ready data."""
        return {
            "options": asdict(self.options),
            "rows": self.rows,
            "evaluation_requests": len(self.evaluation),
            "evaluation_rows": self.evaluation.rows,
            "seconds": round(self.seconds, 3),
            "epochs": list(self.epochs),
            "quality": self.quality.to_json(),
            "best_auc": self.best_auc,
            "closed": self.closed,
        }


def train(
    module_of: Callable[[], nn.Module], log: RankingLog, options: TrainingOptions | None = None
) -> tuple[nn.Module, Training]:
    """Train a module on a log, with a progress bar on standard error.

    The same log, options and thread count give the same weights.

    Args:
        module_of: Makes the untrained module. It has ``logits(**features)`` beside ``forward``:
            the log-odds of a click, on which the loss is exact where a probability has rounded.
        log: Labelled requests; a part is held out.
        options: How to train.

    Returns:
        The trained module, in evaluation mode, and what training came to.

    Raises:
        UserError: The log is too small to split.
    """
    import torch

    options = options or TrainingOptions()
    learned, held_out = split_log(
        log, share=options.held_out, by=options.split_by, seed=options.seed
    )
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        module = module_of()
        batches = _Batches(learned.requests, options)
        epochs: list[dict[str, float | None]] = []
        judged: Quality | None = None
        with _Progress(options.epochs * len(batches)) as progress:
            learner = _Learner(module, options, options.epochs * len(batches))
            for _ in range(options.epochs):
                losses = []
                module.train()
                for columns, labels in batches:
                    losses.append(learner.step(columns, labels))
                    progress.advance(losses[-1])
                judged = _judge(module, held_out)
                epochs.append({"loss": float(np.mean(losses)), "auc": judged.auc})
            learner.finish()
    assert judged is not None  # noqa: S101 - there is at least one epoch
    return module.eval(), Training(
        evaluation=held_out.requests,
        quality=judged,
        best_auc=_best_auc(held_out),
        epochs=tuple(epochs),
        rows=learned.requests.rows,
        seconds=time.perf_counter() - started,
        options=options,
    )


def score_requests(module: nn.Module, batch: RequestBatch) -> Array:
    """Score every candidate of ``batch`` in order, float32 ``[ΣN]``."""
    import torch

    module.eval()
    scores: list[Array] = []
    with torch.inference_mode():
        for chunk in batch.chunks(_SCORING_ROWS):
            inputs = {
                name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in chunk.flat().items()
            }
            scores.append(module(**inputs).reshape(-1).float().numpy())
    return np.concatenate(scores)


def _judge(module: nn.Module, log: RankingLog) -> Quality:
    assert log.requests.labels is not None  # noqa: S101 - a click log has labels
    scores = score_requests(module, log.requests)
    return quality(scores, log.requests.labels, log.requests.offsets, log.signature.score)


def _best_auc(log: RankingLog) -> float | None:
    if log.truth is None:
        return None
    assert log.requests.labels is not None  # noqa: S101 - a click log has labels
    judged = (log.requests.labels, log.requests.offsets, log.signature.score)
    return quality(log.truth, *judged).auc


class _Learner:
    """A module, its two optimizers and the schedule of their learning rates."""

    def __init__(self, module: nn.Module, options: TrainingOptions, steps: int) -> None:
        import torch
        from torch import nn

        self.module = module
        # Sparse gradients: a batch touches a few thousand of the tables' rows, not all.
        self.tables = [each for each in module.modules() if isinstance(each, nn.Embedding)]
        for table in self.tables:
            table.sparse = True
        weights = [each.weight for each in self.tables]
        ours = {id(each) for each in weights}
        rest = [each for each in module.parameters() if id(each) not in ours]
        self.optimizers: list[torch.optim.Optimizer] = []
        if weights:
            self.optimizers.append(torch.optim.Adagrad(weights, options.table_learning_rate))
        if rest:
            self.optimizers.append(torch.optim.Adam(rest, options.learning_rate))
        self.schedules = [
            torch.optim.lr_scheduler.LinearLR(each, 1.0, 0.0, total_iters=steps)
            for each in self.optimizers
        ]

    def step(self, columns: dict[str, Tensor], labels: Tensor) -> float:
        """Learn from one batch and return its mean loss in nats."""
        import torch

        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        logits = self.module.logits(**columns)  # type: ignore[operator]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.sparse.check_sparse_tensor_invariants(enable=False):  # type: ignore[no-untyped-call]
            for optimizer in self.optimizers:
                optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        return loss.item()

    def finish(self) -> None:
        """Leave the module as it was found, but trained."""
        for table in self.tables:
            table.sparse = False
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


class _Batches:
    """Shuffled minibatches of rows. User features are gathered by request, not held per row."""

    def __init__(self, requests: RequestBatch, options: TrainingOptions) -> None:
        import torch

        assert requests.labels is not None  # noqa: S101 - a click log has labels
        self.rows = requests.rows
        self.batch_rows = options.batch_rows
        self.user = {name: torch.from_numpy(x) for name, x in requests.user.items()}
        self.items = {name: torch.from_numpy(x) for name, x in requests.items.items()}
        self.labels = torch.from_numpy(requests.labels)
        request = np.repeat(np.arange(len(requests)), requests.candidates)
        self.request = torch.from_numpy(request)

    def __len__(self) -> int:
        return math.ceil(self.rows / self.batch_rows)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        import torch

        for rows in torch.split(torch.randperm(self.rows), self.batch_rows):
            request = self.request[rows]
            columns = {name: x[request] for name, x in self.user.items()}
            columns |= {name: x[rows] for name, x in self.items.items()}
            yield columns, self.labels[rows]


class _Progress:
    """A bar with loss and time left on a terminal; elsewhere a line now and then."""

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(file=sys.stderr)
        self.steps, self.done, self.said = steps, 0, time.monotonic()
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps, loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("training", total=steps, loss=0.0)
        self.loss = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, loss: float) -> None:
        """Count one step."""
        self.done += 1
        self.loss = loss if self.done == 1 else 0.95 * self.loss + 0.05 * loss
        self.bar.update(self.task, completed=self.done, loss=self.loss)
        if not self.console.is_terminal and time.monotonic() - self.said > 10:
            self.said = time.monotonic()
            print(  # noqa: T201 - progress belongs on standard error
                f"training: step {self.done} of {self.steps}, loss {self.loss:.4f}",
                file=sys.stderr,
                flush=True,
            )
