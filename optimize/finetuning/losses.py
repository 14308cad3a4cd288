"""How far a student's scores are from its teacher's, by what the score means.

A divergence of 0 is a student that scores as its teacher does, so that losses can be compared
before and after. Source: Hinton et al., Distilling the Knowledge in a Neural Network,
arXiv:1503.02531; with one score a row, its softmax over classes is a sigmoid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from rankers.errors import UserError
from rankers.training.losses import listwise

if TYPE_CHECKING:
    from torch import Tensor

    from rankers.features import ScoreKind

# float32 probabilities nearer to 0 or 1 have no logit that means anything.
_CLOSEST = 1e-6


def divergence(student: Tensor, teacher: Tensor, kind: ScoreKind, *, scale: float) -> Tensor:
    """Return the mean divergence of scores from the teacher's.

    Args:
        student: float ``[rows]``.
        teacher: float32 ``[rows]``.
        kind: What scores mean. Of probabilities and logits it is the Kullback-Leibler divergence
            between clicks drawn by each, in nats; of scores that only order, the squared
            difference in units of ``scale``.
        scale: The spread (standard deviation) of all the teacher's scores.
    """
    if kind == "relevance":
        return functional.mse_loss(student, teacher) / max(scale, _CLOSEST) ** 2
    return _click_divergence(_logits(student, kind), _logits(teacher, kind))


def label_loss(student: Tensor, labels: Tensor, request: Tensor, kind: ScoreKind) -> Tensor:
    """Return the mean loss of scores on labels, in nats.

    Args:
        student: float ``[rows]``.
        labels: float32 ``[rows]``: clicks, or grades of scores that only order.
        request: int64 ``[rows]``, ascending: whose row each is.
        kind: What scores mean: of those that only order it is listwise, else cross-entropy.
    """
    if kind == "relevance":
        return listwise(student, labels, request)
    return functional.binary_cross_entropy_with_logits(_logits(student, kind), labels)


def check_labels(labels: Tensor | None, kind: ScoreKind) -> None:
    """Check that there are labels for `label_loss`.

    Raises:
        UserError: There are none, or they are no clicks where scores are probabilities.
    """
    if labels is None:
        raise UserError(
            "fine-tuning: labels_weight is above 0, and the calibration requests have no labels; "
            "give labels, or 0 to learn from the teacher alone"
        )
    low, high = float(labels.min()), float(labels.max())
    if kind != "relevance" and not 0 <= low <= high <= 1:
        raise UserError(
            f"fine-tuning: labels run from {low:g} to {high:g} and scores are of the kind "
            f"{kind!r}; expected clicks from 0 to 1"
        )


def _logits(scores: Tensor, kind: ScoreKind) -> Tensor:
    return torch.logit(scores, eps=_CLOSEST) if kind == "probability" else scores


def _click_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of Bernoulli draws with these logits, the mean of rows."""
    likely = torch.sigmoid(teacher)
    # log p - log q for a click, and for none: exact where both are near 0 or 1.
    clicked = functional.logsigmoid(teacher) - functional.logsigmoid(student)
    not_clicked = functional.logsigmoid(-teacher) - functional.logsigmoid(-student)
    return (likely * clicked + (1 - likely) * not_clicked).mean()
