"""A small ranker whose scores become smaller on average as its table gets fewer columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn

from optimize.samples import sample_requests
from rankers.features import Feature, Signature
from rankers.ranker import Ranker

FILE = Path(__file__)

SIGNATURE = Signature(
    (
        Feature("user", "int64", side="user", cardinality=260),
        Feature("item", "int64", side="item", cardinality=260),
    ),
    score="logit",
)


class Squares(nn.Module):
    """What a lower rank takes from squares of rows can be learnt by the layer after them."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(260, 8, padding_idx=0)
        self.other = nn.Embedding(260, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, item, user):
        return self.out(self.table(item) ** 2 + self.other(user)).squeeze(1)


def squares():
    torch.manual_seed(0)
    module = Squares().eval()
    evaluation = sample_requests(SIGNATURE, [7] * 40)
    ranker = Ranker(
        "squares",
        module,
        SIGNATURE,
        dataclasses.replace(evaluation, labels=np.tile(np.float32([0, 1]), 140)),
        calibration=sample_requests(SIGNATURE, [20] * 150),
    )
    scores = ranker.score(evaluation.flat())
    clicks = (scores > np.median(scores)).astype(np.float32)
    clicks[::5] = 1 - clicks[::5]
    return dataclasses.replace(ranker, evaluation=dataclasses.replace(evaluation, labels=clicks))
