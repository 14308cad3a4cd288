"""Rankers whose logits are twice what clicks say, as a user would hand them in."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

SCALE = 2.0
FEATURES = (
    Feature("mood", "float32", (), "user"),
    Feature("item", "int64", (), "item", 50),
    Feature("price", "float32", (), "item"),
)


class Overconfident(nn.Module):
    """Gives ``factor`` times the logits that clicks are drawn from."""

    def __init__(self, kind: str, factor: float = SCALE) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.item = nn.Embedding(50, 1)
        self.kind, self.factor = kind, factor

    def forward(self, mood, item, price):
        logits = 0.7 * self.item(item)[:, 0] + 0.4 * price + 0.3 * mood - 0.5
        if self.kind == "two heads":
            heads = [torch.sigmoid(self.factor * logits + each) for each in (-0.1, 0.1)]
            return sum(heads) / 2
        scores = self.factor * logits
        return torch.sigmoid(scores) if self.kind == "probability" else scores


def requests(count, seed):
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(5, 40, count))]).astype(np.int64)
    rows = int(offsets[-1])
    batch = RequestBatch(
        {"mood": random.standard_normal(count).astype(np.float32)},
        {
            "item": random.integers(0, 50, rows),
            "price": random.standard_normal(rows).astype(np.float32),
        },
        offsets,
    )
    with torch.inference_mode():
        columns = {name: torch.from_numpy(x) for name, x in batch.flat().items()}
        clicks = Overconfident("probability", 1.0)(**columns).numpy() > random.random(rows)
    return RequestBatch(batch.user, batch.items, offsets, clicks.astype(np.float32))


def ranker(kind="probability", *, factor=SCALE, calibration=None):
    score = "probability" if kind == "two heads" else kind
    return Ranker(
        "overconfident",
        Overconfident(kind, factor),
        Signature(FEATURES, score=score),
        requests(150, 1),
        calibration=requests(200, 2) if calibration is None else calibration,
    )
