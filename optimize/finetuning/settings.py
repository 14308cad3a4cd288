"""How long, how fast and with what a program is fine-tuned, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rankers.errors import UserError


@dataclass(frozen=True, slots=True)
class DistilSettings:
    """How `optimize.finetuning.distil.distil` goes on.

    Attributes:
        steps: The most steps; 0 leaves the student as it is.
        learning_rate: Of AdamW at its highest: it rises over the first tenth of the steps, and
            falls linearly to 0 at the last.
        batch_requests: Whole requests in a step.
        labels_weight: Of the loss on the requests' labels, beside 1 for the teacher's scores.
        held_out: The share of the requests that is not learnt from, but tells when to stop.
        patience: Looks at the held-out loss, of which there are 20 over all steps, that may go by
            without a new best; then it stops.
        seed: Of the split and of the order.
        frozen: Patterns of names of parameters that stay, as in a shell.
        train_tables: Whether embedding tables learn too. A sample touches few of their rows, which
            then fit it and nothing else.
    """

    steps: int = 200
    learning_rate: float = 3e-4
    batch_requests: int = 32
    labels_weight: float = 0.0
    held_out: float = 0.2
    patience: int = 10
    seed: int = 0
    frozen: tuple[str, ...] = ()
    train_tables: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_requests", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"fine-tuning: {name} is {getattr(self, name)}; expected 1 or more")
        if self.steps < 0:
            raise UserError(f"fine-tuning: steps is {self.steps}; expected 0 or more")
        if not 0 < self.learning_rate < 1:
            raise UserError(
                f"fine-tuning: learning_rate is {self.learning_rate}; expected above 0, below 1"
            )
        if not self.labels_weight >= 0:
            raise UserError(
                f"fine-tuning: labels_weight is {self.labels_weight}; expected 0 or more"
            )
        if not 0 < self.held_out < 1:
            raise UserError(
                f"fine-tuning: held_out is {self.held_out}; expected a share above 0, below 1"
            )


@dataclass(frozen=True, slots=True)
class DistilReport:
    """What fine-tuning did. Losses are of the held-out requests, in `optimize.finetuning.losses`.

    Attributes:
        loss_before: Of the student as it came.
        loss_after: Of the student as it is left, at its best; never above ``loss_before``.
        best_step: The step after which that was; 0 if nothing was better than not to begin.
        steps: Steps that were taken; fewer than asked for if it stopped early.
        course: ``(step, loss)`` of each look.
        learnt_from: Requests that steps were made of.
        held_out: Requests that were looked at.
        trained: Names of the parameters that could change.
        stayed: By name why a parameter could not.
    """

    loss_before: float
    loss_after: float
    best_step: int
    steps: int
    course: tuple[tuple[int, float], ...]
    learnt_from: int
    held_out: int
    trained: tuple[str, ...]
    stayed: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return asdict(self)

    def describe(self) -> str:
        """Say in a line what it did."""
        return (
            f"held-out loss {self.loss_before:.3g} to {self.loss_after:.3g} at step "
            f"{self.best_step} of {self.steps}; {self.learnt_from} requests learnt from, "
            f"{self.held_out} held out; {len(self.trained)} parameters trained"
        )
