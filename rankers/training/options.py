"""How to train, and what training came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError, nearest
from rankers.metrics import check_metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.quality import Quality
    from rankers.requests import Array, RequestBatch

LOSSES = ("pointwise", "pairwise", "listwise")
PRECISIONS = ("float32", "bfloat16", "float16")


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
        weight_decay: Of the dense layers, decoupled (AdamW).
        loss: ``pointwise`` (cross-entropy of each row), ``pairwise`` (LambdaRank) or ``listwise``
            (softmax over a request's candidates); see `rankers.training.losses`. The last two
            train on whole requests.
        metric: What tells a better epoch from a worse one: a name in `rankers.metrics`, such as
            ``auc``, ``ndcg_at_10``, ``mrr_at_5``.
        patience: Stop after so many epochs without a better ``metric`` on validation requests, and
            go back to the best. None trains all epochs and keeps the last.
        validation: With patience, the share of the training requests that is kept for it; the
            held-out requests stay untouched.
        held_out: The share of requests held out to evaluate on.
        split_by: ``time`` holds out the last requests, ``request`` a seeded draw of them.
        seed: Of the split, the weights and the order of rows.
        device: ``cpu`` or ``cuda``.
        precision: Of the forward pass: ``float32``, or autocast to ``bfloat16`` or ``float16``.
        buffer_rows: Of a log in shards, the most rows that each process holds to draw batches from,
            and the most that are held out.
        workers: Of a log in shards, the processes that read ahead; 0 reads in the training one.
        compile: A `torch.compile` backend, such as ``inductor``; empty runs operator by operator.
    """

    epochs: int = 1
    batch_rows: int = 2048
    learning_rate: float = 2e-3
    table_learning_rate: float = 0.04
    weight_decay: float = 0.0
    loss: str = "pointwise"
    metric: str = "auc"
    patience: int | None = None
    validation: float = 0.1
    held_out: float = 0.2
    split_by: str = "time"
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    compile: str = ""
    buffer_rows: int = 1_200_000  # more than a row group of Arrow's own default, 2**20 rows
    workers: int = 0

    def __post_init__(self) -> None:
        for name in (
            "epochs", "batch_rows", "learning_rate", "table_learning_rate", "patience",
            "buffer_rows",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} is {value}; expected a number above 0")
        if self.workers < 0:
            raise UserError(f"workers is {self.workers}; expected 0 or more")
        for name, known in (("loss", LOSSES), ("precision", PRECISIONS)):
            value = getattr(self, name)
            if value not in known:
                raise UserError(f"unknown {name} {value!r}; {nearest(value, known)}")
        check_metric(self.metric)


@dataclass(frozen=True, slots=True)
class Training:
    """What training came to.

    Attributes:
        evaluation: The requests that were held out.
        quality: Of the trained module on them.
        best: The quality of the true scores on them, which no ranker beats but by luck; None where
            they are not known.
        chance: The quality of equal scores for all.
        epochs: For each epoch its mean training ``loss``, and ``metric``'s value after it on the
            validation requests, or on the held-out ones where nothing depends on it.
        curve: Steps, and the mean training loss between each and the one before: a picture's worth.
        kept: The epoch whose weights these are, from 0.
        rows: How many rows were trained on.
        seconds: How long it took, evaluation included, without what was done before a resume.
        seen: How often each ID came in the rows (of the user's features, the requests) trained on,
            by feature; see `rankers.ranker.Ranker`.
        calibration: A sample of the requests trained on; see there.
    """

    evaluation: RequestBatch
    quality: Quality
    best: Quality | None
    chance: Quality
    epochs: tuple[dict[str, float | None], ...]
    curve: tuple[tuple[int, float], ...]
    kept: int
    rows: int
    seconds: float
    options: TrainingOptions
    seen: Mapping[str, Array] = field(default_factory=dict)
    calibration: RequestBatch | None = None

    @property
    def best_auc(self) -> float | None:
        """The AUC of the true scores."""
        return None if self.best is None else self.best.auc

    @property
    def closed(self) -> float | None:
        """The share of the way from chance to the best reachable ``metric`` that was gone."""
        if self.best is None:
            return None
        found, best, chance = (
            each.value(self.options.metric) for each in (self.quality, self.best, self.chance)
        )
        if found is None or best is None or chance is None or best == chance:
            return None
        return float((found - chance) / (best - chance))

    def to_json(self) -> dict[str, Any]:
        """Return everything but the requests and counts as JSON-ready data."""
        return {
            "options": asdict(self.options),
            "rows": self.rows,
            "evaluation_requests": len(self.evaluation),
            "evaluation_rows": self.evaluation.rows,
            "seconds": round(self.seconds, 3),
            "epochs": list(self.epochs),
            "curve": [list(each) for each in self.curve],
            "kept": self.kept,
            "quality": self.quality.to_json(),
            "best": None if self.best is None else self.best.to_json(),
            "chance": self.chance.to_json(),
            "best_auc": self.best_auc,
            "closed": self.closed,
        }
