"""Rankers with a planted fault each, handed in as a user would: ``faulty_rankers.py:function``."""

from __future__ import annotations

import random as python_random
from dataclasses import replace

import numpy as np
import torch
from example_rankers import SIGNATURE, TinyRanker, requests, tiny
from torch import nn
from torch.nn import functional

from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch


class Tower(TinyRanker):
    """The tiny ranker, with a hidden layer that faults are planted at."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(8, 8)

    def forward(self, profile, country, item, price):
        user = self.profile(profile) + self.country(country)  # [rows, 8]
        hidden = self.fault(self.hidden(user * self.item(item)))
        return torch.sigmoid(hidden.sum(-1) + self.price(price[:, None]).squeeze(-1))

    def fault(self, hidden):  # [rows, 8]
        return hidden


def _ranker(module, evaluation=None, signature=SIGNATURE):
    return Ranker("faulty", module, signature, evaluation or requests())


def _tower(fault):
    """Return a ranker whose hidden layer goes through ``fault(module, hidden)``."""
    return _ranker(type("Faulty", (Tower,), {"fault": fault})())


def healthy():
    return tiny()


def healthy_tower():
    return _ranker(Tower())


class AttendingRanker(TinyRanker):
    """Attends to a history within each row, with the rows in the second dimension."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, profile, country, item, price):
        both = torch.stack([self.country(country), self.item(item)])  # [2, rows, 8]
        mixed = self.attention(both, both, both, need_weights=False)[0]
        return torch.sigmoid((mixed.mean(0) * self.profile(profile)).sum(-1) + price)


def attends_within_a_row():
    return _ranker(AttendingRanker())


class TagRanker(TinyRanker):
    """Sums a padded bag of 10 tags from a table that begins with a row for something else."""

    def __init__(self, rows):
        super().__init__()
        self.tags = nn.Embedding(rows, 8)

    def forward(self, profile, country, item, price, tags):
        filled = (tags != 0).unsqueeze(-1)  # [rows, L, 1]
        bag = (self.tags(tags + 1) * filled).sum(1)
        return torch.sigmoid((bag * self.item(item)).sum(-1)) * super().forward(
            profile, country, item, price
        )


def _tagged(rows):
    batch = requests()
    tags = np.random.default_rng(2).integers(0, 9, (batch.rows, 4))
    tags.sort(axis=1)
    items = batch.items | {"tags": np.ascontiguousarray(tags[:, ::-1])}
    feature = Feature("tags", "int64", (4,), cardinality=10, padding=0)
    evaluation = RequestBatch(batch.user, items, batch.offsets, batch.labels)
    return _ranker(TagRanker(rows), evaluation, Signature((*SIGNATURE.features, feature)))


def sums_a_padded_bag():
    return _tagged(rows=11)


# How rows come to depend on each other.


def softmax_over_the_rows():
    return _tower(lambda self, hidden: torch.softmax(hidden, dim=0))


def mean_over_the_rows():
    return _tower(lambda self, hidden: hidden - hidden.mean(0))


def attention_between_rows():
    def fault(self, hidden):
        weights = torch.softmax(hidden @ hidden.T, dim=-1)  # [rows, rows]
        return weights @ hidden

    return _tower(fault)


class AttentionTower(Tower):
    """Its attention takes the rows for a sequence: batch_first was forgotten."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def fault(self, hidden):
        return self.attention(hidden, hidden, hidden, need_weights=False)[0]


def attention_module_between_rows():
    return _ranker(AttentionTower())


def sorts_the_rows():
    return _tower(lambda self, hidden: hidden + hidden.sort(0).values)


def scaled_by_the_largest_row():
    return _tower(lambda self, hidden: hidden / hidden.abs().max())


class NormTower(Tower):
    def __init__(self, **options):
        super().__init__()
        self.norm = nn.BatchNorm1d(8, **options)

    def fault(self, hidden):
        return self.norm(hidden)


def batch_norm_without_running_statistics():
    return _ranker(NormTower(track_running_stats=False))


def batch_norm_left_in_training_mode():
    def fault(self, hidden):
        return functional.batch_norm(hidden, None, None, training=True)

    return _tower(fault)


class StubbornNorm(nn.BatchNorm1d):
    """Stays in training mode whatever it is told."""

    def train(self, mode=True):
        return super().train(True)


def batch_norm_that_updates_its_statistics():
    tower = NormTower()
    tower.norm = StubbornNorm(8)
    return _ranker(tower)


# Chance, state, place and size.


def dropout_always_on():
    return _tower(lambda self, hidden: functional.dropout(hidden, 0.5, training=True))


def noise_in_the_score():
    return _tower(lambda self, hidden: hidden + 0.1 * torch.randn_like(hidden))


class CountingTower(Tower):
    """Its score drifts with every call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def fault(self, hidden):
        self.calls += 1
        return hidden + 0.01 * self.calls


def counts_its_calls():
    return _ranker(CountingTower())


def keeps_a_secret():
    calls = python_random.Random(0)
    return _tower(lambda self, hidden: hidden + calls.random())


def numbers_the_rows():
    def fault(self, hidden):
        return hidden + 0.01 * torch.arange(hidden.shape[0])[:, None]

    return _tower(fault)


def divides_by_the_number_of_rows():
    return _tower(lambda self, hidden: hidden / hidden.shape[0])


def fails_on_one_row():
    def fault(self, hidden):
        return hidden.squeeze().reshape(-1, 8)[:, :8] + hidden.squeeze().sum(1, keepdim=True)

    return _tower(fault)


# Scores.


def nan_for_some():
    return _tower(lambda self, hidden: torch.where(hidden > 1.5, torch.nan, hidden))


def saturated():
    return _tower(lambda self, hidden: hidden * 0 + 1e6)


class LogitTower(Tower):
    def forward(self, **columns):
        return torch.logit(super().forward(**columns).clamp(1e-6, 1 - 1e-6))


def logits_declared_as_probabilities():
    return _ranker(LogitTower())


class PairTower(Tower):
    def forward(self, **columns):
        scores = super().forward(**columns)
        return torch.stack([scores, scores], dim=1)


def two_scores_a_row():
    return _ranker(PairTower())


# Inputs.


def _with_item_feature(values_of, name="extra"):
    """Return a ranker whose price comes from another item feature, made by ``values_of(batch)``."""

    class Other(TinyRanker):
        def forward(self, profile, country, item, price, extra):
            return super().forward(profile, country, item, price + extra)

    batch = requests()
    items = batch.items | {"extra": values_of(batch)}
    signature = Signature((*SIGNATURE.features, Feature(name, "float32")))
    evaluation = RequestBatch(batch.user, items, batch.offsets, batch.labels)
    return _ranker(Other(), evaluation, signature)


def item_feature_of_the_user():
    def values_of(batch):
        per_request = np.random.default_rng(1).standard_normal(len(batch)).astype(np.float32)
        return np.repeat(per_request, batch.candidates)

    return _with_item_feature(values_of)


def item_feature_without_variety():
    return _with_item_feature(lambda batch: np.ones(batch.rows, np.float32))


def ignores_the_price():
    class Ignoring(TinyRanker):
        def forward(self, profile, country, item, price):
            return super().forward(profile, country, item, torch.zeros(item.shape[0]))

    return _ranker(Ignoring())


def price_weighs_nothing():
    module = TinyRanker()
    with torch.no_grad():
        module.price.weight.zero_()
    return _ranker(module)


# IDs.


def _signature(**changes):
    """Return the signature with one feature replaced: ``item={"cardinality": 500}``."""
    return Signature(
        tuple(
            replace(each, **changes[each.name]) if each.name in changes else each
            for each in SIGNATURE.features
        )
    )


def cardinality_above_the_table():
    return _ranker(TinyRanker(), signature=_signature(item={"cardinality": 101}))


class OffsetTower(TinyRanker):
    """Both IDs share one table, with offsets; it is one row short."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(119, 8)
        self.register_buffer("offsets", torch.tensor([0, 20]))

    def forward(self, profile, country, item, price):
        ids = torch.stack([country, item], dim=1) + self.offsets  # [rows, 2]
        user, target = self.shared(ids).unbind(1)
        return torch.sigmoid(((user + self.profile(profile)) * target).sum(-1) + price)


def shared_table_one_row_short():
    batch = requests()
    batch.items["item"] %= 99
    return _ranker(OffsetTower(), batch)


def bag_with_offsets_one_row_short():
    return _tagged(rows=10)


def no_cardinality():
    return _ranker(TinyRanker(), signature=_signature(item={"cardinality": None}))


class HashingRanker(TinyRanker):
    """Healthy: any ID is hashed into the table."""

    def forward(self, profile, country, item, price):
        return super().forward(profile, country, item % 100, price)


def hashed_without_cardinality():
    return _ranker(HashingRanker(), signature=_signature(item={"cardinality": None}))


class FancyIndexing(TinyRanker):
    def forward(self, profile, country, item, price):
        user = self.profile(profile) + self.country(country)
        return torch.sigmoid((user * self.item.weight[item]).sum(-1) + price)


def negative_ids():
    batch = requests()
    batch.items["item"][::7] = -1
    return _ranker(FancyIndexing(), batch, _signature(item={"cardinality": None}))


def id_beyond_its_dtype():
    batch = requests()
    batch.items["item"] = batch.items["item"].astype(np.int32)
    signature = _signature(item={"dtype": "int32", "cardinality": 2**32})
    return _ranker(HashingRanker(), batch, signature)


class PackedRanker(nn.Module):
    """All features in one float matrix; the item's ID is hashed."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.item = nn.Embedding(100, 8)
        self.dense = nn.Linear(2, 8)

    def forward(self, packed):  # float32 [rows, 3]
        item = packed[:, 0].long() % 100
        return torch.sigmoid((self.item(item) * self.dense(packed[:, 1:])).sum(-1))


def _packed(largest):
    random = np.random.default_rng(0)
    packed = random.standard_normal((600, 3)).astype(np.float32)
    packed[:, 0] = random.integers(0, largest, 600)
    labels = random.integers(0, 2, 600).astype(np.float32)
    batch = RequestBatch({}, {"packed": packed}, np.arange(61) * 10, labels)
    return _ranker(PackedRanker(), batch, Signature((Feature("packed", "float32", (3,)),)))


def ids_too_large_for_their_float():
    return _packed(2**26)


def small_ids_in_a_float():
    return _packed(100)


class HalfRanker(TinyRanker):
    """Its item IDs pass through half precision."""

    def __init__(self):
        super().__init__()
        self.item = nn.Embedding(5000, 8)

    def forward(self, profile, country, item, price):
        return super().forward(profile, country, item.half().long(), price)


def ids_through_half_precision():
    return _ranker(HalfRanker(), signature=_signature(item={"cardinality": 4000}))


def table_twice_as_large_as_needed():
    module = TinyRanker()
    module.item = nn.Embedding(10_000, 8)
    return _ranker(module)


# Operators.


class BagRanker(TinyRanker):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(100, 8, mode="sum")

    def forward(self, profile, country, item, price):
        user = self.profile(profile) + self.country(country)
        return torch.sigmoid((user * self.bag(item[:, None])).sum(-1) + price)


def embedding_bag():
    return _ranker(BagRanker())


def cross_layer_of_column_vectors():
    def fault(self, hidden):
        column = hidden.unsqueeze(2)  # [rows, 8, 1]
        return torch.matmul(self.hidden.weight, column).squeeze(2)

    return _tower(fault)


def looks_at_each_item_once():
    class Unique(TinyRanker):
        def forward(self, profile, country, item, price):
            once, back = torch.unique(item, return_inverse=True)
            user = self.profile(profile) + self.country(country)
            return torch.sigmoid((user * self.item(once)[back]).sum(-1) + price)

    return _ranker(Unique())


def picks_rows_by_a_mask():
    class Picking(TinyRanker):
        def forward(self, profile, country, item, price):
            raised = torch.zeros_like(price)
            raised[price > 0] = price[price > 0]
            return super().forward(profile, country, item, raised + 0.1 * price)

    return _ranker(Picking())


def branches_in_the_graph():
    def fault(self, hidden):
        return torch.cond(hidden.shape[0] > 5, lambda x: x * 1, lambda x: x + 0, (hidden,))

    return _tower(fault)


def double_precision():
    scale = torch.from_numpy(np.linspace(0, 1, 8))
    return _tower(lambda self, hidden: (hidden * scale).float())


def complex_numbers():
    def fault(self, hidden):
        return torch.view_as_real(torch.view_as_complex(hidden.reshape(-1, 4, 2)) * 2).flatten(1)

    return _tower(fault)


def sorts_within_a_row():
    return _tower(lambda self, hidden: hidden.topk(4, dim=1).values)


def scatters():
    def fault(self, hidden):
        places = hidden.argmax(1, keepdim=True)  # [rows, 1]
        return torch.zeros_like(hidden).scatter(1, places, hidden[:, :1])

    return _tower(fault)


def operator_unknown_to_onnx():
    return _tower(lambda self, hidden: torch.special.bessel_j0(hidden))


def branches_on_values():
    def fault(self, hidden):
        return hidden * 2 if hidden.sum() > 1e9 else hidden

    return _tower(fault)


def loops_over_rows():
    return _tower(lambda self, hidden: torch.stack([each * 1 for each in hidden]))


def nested_tensors():
    def fault(self, hidden):
        bags = torch.nested.nested_tensor([each[:4] for each in hidden])
        return bags.to_padded_tensor(0.0)

    return _tower(fault)


def raises():
    def fault(self, hidden):
        raise ValueError("not today")

    return _tower(fault)


class MixingBag(BagRanker):
    def forward(self, profile, country, item, price):
        scores = super().forward(profile, country, item, price)
        return scores - scores.mean() if scores.max() > 0 else scores


def branches_and_mixes():
    ranker = _ranker(MixingBag())
    return Ranker("faulty", ranker.module, Signature(SIGNATURE.features, "logit"), requests())


def talks():
    def fault(self, hidden):
        print("hello")  # noqa: T201
        return hidden

    return _tower(fault)
