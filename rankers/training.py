"""Training a ranker of the zoo on a click log, to a checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.checkpoint import load_checkpoint, make_module, save_checkpoint
from rankers.data.log import split_log
from rankers.errors import UserError
from rankers.files import new_folder
from rankers.ranker import Ranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from rankers.data.log import ClickLog
    from rankers.requests import RequestBatch

__all__ = ["TrainingOptions", "load_checkpoint", "train_checkpoint"]

_EVALUATION_ROWS = 65_536  # scored at once
_CODE = ("training.py", "checkpoint.py", "data/log.py", "data/synthetic.py", "data/criteo.py")


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a ranker is trained.

    Attributes:
        ranker: Its name in the zoo.
        data: A Criteo file, or a Parquet file of `rankers.data.synthetic`; None draws a log.
        rows: Of the drawn log.
        epochs: Passes over the training requests. Tables overfit early: two are enough here.
        batch_rows: Rows in a step.
        learning_rate: Adam's, at the top of a one-cycle schedule.
        weight_decay: Adam's. It keeps the rows of rare IDs near zero.
        held_out: The share of requests to evaluate on.
        split: ``time`` holds out the last requests, ``request`` a seeded draw of them.
        seed: Of the log, the split, the weights and the order of rows.
    """

    ranker: str = "dlrm"
    data: Path | None = None
    rows: int = 400_000
    epochs: int = 2
    batch_rows: int = 2048
    learning_rate: float = 3e-3
    weight_decay: float = 3e-5
    held_out: float = 0.15
    split: str = "time"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rows", "epochs", "batch_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"training option {name} is {getattr(self, name)}; it is 1 or more")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise UserError(
                f"learning rate {self.learning_rate} and weight decay {self.weight_decay} are "
                "above 0, and 0 or more"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON-ready data."""
        return dataclasses.asdict(self) | {"data": None if self.data is None else str(self.data)}

    def key(self) -> str:
        """Return a fingerprint of the options, the data file and the code that they go through."""
        digest = hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode())
        if self.data is not None and self.data.is_file():
            with self.data.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        here = Path(__file__).parent
        for name in (*_CODE, f"zoo/{self.ranker}.py"):
            if (here / name).is_file():
                digest.update((here / name).read_bytes())
        return digest.hexdigest()


def train_checkpoint(
    options: TrainingOptions, folder: Path, *, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Train a ranker and put its checkpoint in place when it is whole.

    Args:
        options: What to train, on what, and how.
        folder: Where the checkpoint is to appear.
        say: Is told in a line how each epoch went; by default nobody.

    Returns:
        What came of it: rows, seconds, AUC on the held-out requests and, where the log was drawn,
        the best reachable AUC and which share of the way from 0.5 to it was closed.

    Raises:
        UserError: The ranker is unknown, the data is missing or broken, or clicks are all alike.
    """
    import torch

    say = say or (lambda _: None)
    # Before the data is read: an unknown name should not take a minute to be told.
    torch.manual_seed(options.seed)
    log = _read_log(options)
    train, held_out = split_log(log, share=options.held_out, by=options.split, seed=options.seed)
    arguments = {"cardinalities": _cardinalities(log)}
    module = make_module(options.ranker, arguments)
    started = time.perf_counter()
    curve = _fit(module, train.requests, held_out.requests, options, say)
    report: dict[str, Any] = {
        "options": options.to_json(),
        "rows": train.requests.rows,
        "held_out_rows": held_out.requests.rows,
        "held_out_requests": len(held_out.requests),
        "seconds": round(time.perf_counter() - started, 1),
        "curve": curve,
        "auc": curve[-1]["auc"],
        "best_auc": None,
    }
    if held_out.probability is not None:
        best = _auc(held_out.probability, held_out.requests)
        report["best_auc"] = best
        report["share_closed"] = (report["auc"] - 0.5) / (best - 0.5)
    ranker = Ranker(options.ranker, module, log.signature, held_out.requests)
    with new_folder(folder) as aside:
        save_checkpoint(aside, ranker, arguments=arguments, training=report)
    return report


def _read_log(options: TrainingOptions) -> ClickLog:
    if options.data is None:
        from rankers.data.synthetic import ClickModel

        return ClickModel(seed=options.seed).draw(options.rows)
    if not options.data.is_file():
        raise UserError(f"{options.data}: no such data file")
    if options.data.suffix == ".parquet":
        from rankers.data.synthetic import read_parquet

        return read_parquet(options.data)
    from rankers.data.criteo import read_criteo

    return read_criteo(options.data, seed=options.seed)


def _cardinalities(log: ClickLog) -> dict[str, int]:
    features = log.signature.features
    return {each.name: each.cardinality for each in features if each.cardinality is not None}


def _fit(
    module: nn.Module,
    train: RequestBatch,
    held_out: RequestBatch,
    options: TrainingOptions,
    say: Callable[[str], None],
) -> list[dict[str, float]]:
    """Train in place; return the loss and the held-out AUC after each epoch."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    if train.labels is None:
        raise UserError("the log has no labels to train on")
    columns = {name: torch.from_numpy(x) for name, x in train.flat().items()}
    labels = torch.from_numpy(train.labels)
    rows = len(labels)
    batch = min(options.batch_rows, rows)
    steps = rows // batch
    optimizer = torch.optim.Adam(
        module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.epochs * steps + 1
    )
    generator = torch.Generator().manual_seed(options.seed)
    logits_of: Any = module.logits
    curve = []
    with _progress(options.epochs * steps) as advance:
        for epoch in range(1, options.epochs + 1):
            module.train()
            order = torch.randperm(rows, generator=generator)
            total = 0.0
            for step in range(steps):
                chosen = order[step * batch : (step + 1) * batch]
                logits = logits_of(**{name: x[chosen] for name, x in columns.items()})
                loss = binary_cross_entropy_with_logits(logits, labels[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += loss.item()
                advance(f"epoch {epoch}, loss {total / (step + 1):.4f}")
            found = {"loss": total / steps, "auc": _auc(_score(module, held_out), held_out)}
            curve.append(found)
            say(f"epoch {epoch}: loss {found['loss']:.4f}, held-out AUC {found['auc']:.4f}")
    return curve


def _score(module: nn.Module, requests: RequestBatch) -> Any:
    import torch

    module.eval()
    parts = []
    with torch.inference_mode():
        for chunk in requests.chunks(_EVALUATION_ROWS):
            columns = {name: torch.from_numpy(x) for name, x in chunk.flat().items()}
            parts.append(module(**columns).numpy())
    return np.concatenate(parts)


def _auc(scores: Any, requests: RequestBatch) -> float:
    from sklearn.metrics import roc_auc_score

    labels = requests.labels
    if labels is None or len(np.unique(labels)) < 2:
        raise UserError(
            "the held-out requests have clicks on all candidates or on none: their AUC is not "
            "defined; hold out more, or give more data"
        )
    return float(roc_auc_score(labels, scores))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar on standard error where it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("training", total=total)
        yield lambda text: progress.update(task, advance=1, description=text)
