"""Small rankers that tests hand in as a user would: ``example_rankers.py:function``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

EXAMPLES = Path(__file__)

SIGNATURE = Signature(
    (
        Feature("profile", "float32", (3,), side="user"),
        Feature("country", "int64", side="user", cardinality=20),
        Feature("item", "int64", side="item", cardinality=100),
        Feature("price", "float32", side="item"),
    )
)


class TinyRanker(nn.Module):
    """A dot product of a user and an item vector, and a price effect."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.country = nn.Embedding(20, 8)
        self.profile = nn.Linear(3, 8)
        self.item = nn.Embedding(100, 8)
        self.price = nn.Linear(1, 1)

    def forward(self, profile, country, item, price):
        user = self.profile(profile) + self.country(country)  # [rows, 8]
        logits = (user * self.item(item)).sum(-1) + self.price(price[:, None]).squeeze(-1)
        return torch.sigmoid(logits)


def requests(count=40, *, seed=0, labels_from=None):
    """Return random requests of 1 to 60 candidates, with clicks drawn from a module's scores."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(1, 61, count))]).astype(np.int64)
    rows = int(offsets[-1])
    batch = RequestBatch(
        user={
            "profile": random.standard_normal((count, 3)).astype(np.float32),
            "country": random.integers(0, 20, count),
        },
        items={
            "item": random.integers(0, 100, rows),
            "price": random.standard_normal(rows).astype(np.float32),
        },
        offsets=offsets,
    )
    module = labels_from or TinyRanker()
    with torch.inference_mode():
        flat = {name: torch.from_numpy(x) for name, x in batch.flat().items()}
        probability = module.eval()(**flat).reshape(-1).numpy()
    labels = (random.random(rows) < probability).astype(np.float32)
    return RequestBatch(batch.user, batch.items, batch.offsets, labels)


def tiny():
    return Ranker("tiny", TinyRanker(), SIGNATURE, requests())


def _with_forward(forward, name="odd"):
    module = TinyRanker()
    kind = type(name, (TinyRanker,), {"forward": forward})
    module.__class__ = kind
    return Ranker(name, module, SIGNATURE, requests())


def nan_scores():
    def forward(self, profile, country, item, price):
        scores = TinyRanker.forward(self, profile, country, item, price)
        return torch.where(price > 1, torch.nan, scores)

    return _with_forward(forward)


def branches_on_values():
    def forward(self, profile, country, item, price):
        if price.sum() > 0:
            price = price * 2
        return TinyRanker.forward(self, profile, country, item, price)

    ranker = _with_forward(forward)
    object.__setattr__(
        ranker.evaluation,
        "items",
        ranker.evaluation.items | {"price": np.abs(ranker.evaluation.items["price"])},
    )
    return ranker


def loops_over_rows():
    def forward(self, profile, country, item, price):
        scores = TinyRanker.forward(self, profile, country, item, price)
        return torch.stack([each * 1 for each in scores])

    return _with_forward(forward)


def uses_numpy():
    def forward(self, profile, country, item, price):
        price = torch.from_numpy(np.abs(price.numpy()))
        return TinyRanker.forward(self, profile, country, item, price)

    return _with_forward(forward)


def operator_unknown_to_onnx():
    def forward(self, profile, country, item, price):
        price = torch.special.bessel_j0(price)
        return TinyRanker.forward(self, profile, country, item, price)

    return _with_forward(forward)


def softmax_over_the_batch():
    def forward(self, profile, country, item, price):
        return torch.softmax(TinyRanker.forward(self, profile, country, item, price), dim=0)

    return _with_forward(forward)


def two_scores_a_row():
    def forward(self, profile, country, item, price):
        scores = TinyRanker.forward(self, profile, country, item, price)
        return torch.stack([scores, scores], dim=1)

    return _with_forward(forward)


def id_out_of_range():
    ranker = tiny()
    ranker.evaluation.items["item"][7] = 100
    return Ranker("odd", ranker.module, SIGNATURE, ranker.evaluation)


def empty_request():
    batch = requests()
    offsets = np.insert(batch.offsets, 3, batch.offsets[3])
    user = {name: np.insert(x, 3, x[3], axis=0) for name, x in batch.user.items()}
    return Ranker(
        "odd", TinyRanker(), SIGNATURE, RequestBatch(user, batch.items, offsets, batch.labels)
    )


def other_argument_names():
    signature = Signature(
        tuple(
            Feature(
                "prize" if each.name == "price" else each.name,
                each.dtype,
                each.shape,
                each.side,
                each.cardinality,
            )
            for each in SIGNATURE.features
        )
    )
    batch = requests()
    items = {"item": batch.items["item"], "prize": batch.items["price"]}
    evaluation = RequestBatch(batch.user, items, batch.offsets, batch.labels)
    return Ranker("odd", TinyRanker(), signature, evaluation)


def crashes():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def hangs():
    import time

    time.sleep(600)


def eats_memory():
    import time

    hoard = []
    while True:
        hoard.append(np.ones(2**24))  # 128 MiB
        time.sleep(0.02)


def talks():
    """Print while it is loaded and, from a thread, after everything else is done."""
    import threading

    def last():
        threading.main_thread().join()
        sys.stdout.write("the last word\n")

    sys.stdout.write("the first word\n")
    threading.Thread(target=last).start()
    return tiny()


def draws():
    """Say what the shared generators give."""
    import random

    drawn = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    sys.stderr.write(f"drawn: {drawn}\n")
    return 42


def not_a_ranker():
    return 42


class DeepRanker(nn.Module):
    """Three dense layers wide enough to quantize."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.item = nn.Embedding(100, 28)
        self.layers = nn.Sequential(
            nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, profile, country, item, price):
        x = torch.cat([profile, self.item(item), price[:, None]], dim=1)  # [rows, 32]
        return torch.sigmoid(self.layers(x).squeeze(-1) + 0 * country)


def deep():
    """Return a ranker of dense layers, with calibration requests."""
    module = DeepRanker()
    evaluation = requests(200, labels_from=module)
    return Ranker("deep", module, SIGNATURE, evaluation, calibration=requests(16, seed=5))
