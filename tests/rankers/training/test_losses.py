from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from rankers.training.losses import LOSS_FUNCTIONS, listwise, pairwise

REQUEST = torch.tensor([0, 0, 0, 1, 2, 2])
LABELS = torch.tensor([2.0, 0.0, 1.0, 1.0, 0.0, 0.0])
LOGITS = torch.tensor([0.3, 1.0, -0.5, 0.2, 0.1, 0.4])


def test_listwise_is_the_cross_entropy_written_out():
    def of(scores, labels):
        total = sum(math.exp(each) for each in scores)
        return -sum(y / sum(labels) * math.log(math.exp(s) / total)
                    for s, y in zip(scores, labels, strict=True))  # fmt: skip

    expected = (of([0.3, 1.0, -0.5], [2, 0, 1]) + of([0.2], [1])) / 2  # the last has no label
    assert listwise(LOGITS, LABELS, REQUEST).item() == pytest.approx(expected, rel=1e-5)


def test_pairwise_weighs_a_pair_by_what_swapping_it_changes_in_ndcg():
    scores, grades = [0.3, 1.0, -0.5], [2, 0, 1]
    gains = np.array([[2.0**each - 1 for each in grades]])  # linear gains of these are our gains

    def ndcg(order):
        return ndcg_score(gains, [order])

    expected = 0.0
    for i in range(3):
        for j in range(3):
            if grades[i] > grades[j]:
                swapped = list(scores)
                swapped[i], swapped[j] = swapped[j], swapped[i]
                change = abs(ndcg(scores) - ndcg(swapped))
                expected += change * math.log1p(math.exp(scores[j] - scores[i]))
    assert pairwise(LOGITS, LABELS, REQUEST).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSS_FUNCTIONS)
def test_a_step_down_the_gradient_ranks_better(name):
    logits = LOGITS.clone().requires_grad_()
    before = LOSS_FUNCTIONS[name](logits, LABELS.clamp(max=1), REQUEST)
    before.backward()
    after = LOSS_FUNCTIONS[name](logits - 0.1 * logits.grad, LABELS.clamp(max=1), REQUEST)
    assert after < before


@pytest.mark.parametrize("name", ["pairwise", "listwise"])
def test_requests_that_teach_nothing_give_no_gradient(name):
    logits = LOGITS.clone().requires_grad_()
    LOSS_FUNCTIONS[name](logits, torch.zeros(6), REQUEST).backward()
    assert logits.grad.abs().sum() == 0
