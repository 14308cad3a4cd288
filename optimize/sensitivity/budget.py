"""How much a joint choice may cost, and whether it does: ``score=0.01`` or ``auc=1e-4``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optimize.gates.holding import hold
from optimize.gates.quality import telling
from rankers.errors import UserError
from rankers.metrics import LESS_IS_BETTER, check_metric

if TYPE_CHECKING:
    from optimize.sensitivity.loss import Loss
    from rankers.requests import RequestBatch

SCORE = "score"


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be lost.

    Attributes:
        name: ``score``: the mean change of a score, as a share of the scores' spread; or a metric's
            name.
        limit: Of a metric, the largest loss at the bad end of its 95 % interval, as in gates.
    """

    name: str
    limit: float

    def __str__(self) -> str:
        return f"{self.name}={self.limit:g}"

    @property
    def metric(self) -> str | None:
        """The metric, if it is one that needs labels."""
        return None if self.name == SCORE else self.name

    def holds(self, loss: Loss, requests: RequestBatch) -> bool:
        """Whether a loss on these requests is within the budget, beyond doubt."""
        if self.metric is None:
            return loss.score_change <= self.limit
        change = loss.quality.get(self.metric)
        if change is None or requests.labels is None or not np.isfinite(loss.score_change):
            return False
        held = hold(
            self.metric,
            change,
            self.limit,
            requests=len(requests),
            less_is_better=self.metric in LESS_IS_BETTER,
            telling=telling(self.metric, requests.labels, requests.offsets),
        )
        return held.outcome == "passed"

    def check(self, requests: RequestBatch, kind: str) -> None:
        """Check that it can be measured on some requests.

        Raises:
            UserError: It needs labels that they do not have, or there is no such metric of scores
                of this kind.
        """
        if self.metric is None:
            return
        if requests.labels is None:
            raise UserError(
                f"the budget {self} needs labels, and the calibration requests have none: give "
                "labelled ones, or a budget of score changes such as score=0.01"
            )
        if kind == "relevance" and self.metric in LESS_IS_BETTER:
            raise UserError(f"the budget {self}: scores of kind 'relevance' have no {self.metric}")


def parse_budget(text: str) -> Budget:
    """Read ``NAME=LIMIT``.

    Raises:
        UserError: It is not of this form, there is no such metric, or the limit is not above 0.
    """
    name, equals, value = text.partition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = -1.0
    if not equals or not 0 < limit < 1:
        raise UserError(
            f"--budget is {text!r}; expected a name and a limit above 0 and below 1, such as "
            "score=0.01 or auc=1e-4"
        )
    if name != SCORE:
        check_metric(name)
    return Budget(name, limit)
