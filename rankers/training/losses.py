"""Losses on the scores of a batch's rows, and which request each row is of.

All return one number, the mean over rows, queries or pairs, and take the same arguments:

- ``logits``: float ``[rows]``, the scores before any sigmoid.
- ``labels``: float32 ``[rows]``, clicks or grades.
- ``request``: int64 ``[rows]``, ascending: the number of the row's request within the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable


def pointwise(logits: Tensor, labels: Tensor, request: Tensor) -> Tensor:
    """Binary cross-entropy of each row, in nats."""
    del request
    return functional.binary_cross_entropy_with_logits(logits, labels)


def listwise(logits: Tensor, labels: Tensor, request: Tensor) -> Tensor:
    """Cross-entropy between a request's labels and the softmax of its scores, in nats.

    Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach (ListNet), ICML 2007,
    with the labels themselves, made to sum to 1, as the target. Requests without a label above 0
    are left out.
    """
    scores, targets, held = _by_request(logits, labels, request)
    scores = scores.masked_fill(~held, -torch.inf)
    logs = scores.log_softmax(dim=1).masked_fill(~held, 0.0)
    total = targets.sum(dim=1)
    losses = -(targets * logs).sum(dim=1) / total.clamp(min=1e-9)
    useful = total > 0
    return (losses * useful).sum() / useful.sum().clamp(min=1)


def pairwise(logits: Tensor, labels: Tensor, request: Tensor) -> Tensor:
    """Logistic loss of a request's pairs, each weighted by what swapping it changes in NDCG.

    Burges, From RankNet to LambdaRank to LambdaMART, 2010, with gains of 2^grade - 1. The weights
    are taken as constants, as there. Requests whose labels are all alike are left out.
    """
    scores, grades, held = _by_request(logits, labels, request)  # [R, L] each
    gains = (torch.exp2(grades) - 1) * held
    places = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    discounts = 1 / torch.log2(places + 1.0)  # of place 1, 2, …, [L]
    ideal = (gains.sort(dim=1, descending=True).values * discounts).sum(dim=1)  # [R]
    ranked = scores.detach().masked_fill(~held, -torch.inf).argsort(dim=1, descending=True)
    mine = torch.empty_like(scores).scatter_(1, ranked, discounts.expand_as(scores))  # [R, L]
    better = (grades[:, :, None] > grades[:, None, :]) & held[:, :, None] & held[:, None, :]
    change = (gains[:, :, None] - gains[:, None, :]) * (mine[:, :, None] - mine[:, None, :])
    weights = change.abs() / ideal.clamp(min=1e-9)[:, None, None] * better
    losses = functional.softplus(scores[:, None, :] - scores[:, :, None]) * weights
    useful = better.flatten(1).any(dim=1).sum().clamp(min=1)
    return losses.sum() / useful


LOSS_FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "pointwise": pointwise,
    "pairwise": pairwise,
    "listwise": listwise,
}


def _by_request(logits: Tensor, labels: Tensor, request: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, labels and which places are held, a row for each request: ``[R, L]``."""
    counts = torch.bincount(request)
    starts = torch.cumsum(counts, dim=0) - counts
    place = torch.arange(len(request), device=request.device) - starts[request]
    shape = (len(counts), int(counts.max()))
    held = torch.zeros(shape, dtype=torch.bool, device=logits.device)
    held[request, place] = True
    scores = torch.zeros(shape, dtype=logits.dtype, device=logits.device)
    targets = torch.zeros(shape, dtype=labels.dtype, device=logits.device)
    return (
        scores.index_put((request, place), logits),
        targets.index_put((request, place), labels),
        held,
    )
