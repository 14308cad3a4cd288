"""The stage: rare rows become one, others and padding stay, in torch and in ONNX."""

from __future__ import annotations

import json

import numpy as np
import pytest
import table_rankers
import torch
from torch import nn

from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages.fold_rare_rows import REPORT
from optimize.tables.fold import in_bytes
from optimize.tables.program import open_tables
from optimize.tables.traffic import traffic_of
from optimize.torch_program import load_program
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch
from rankers.seen import save_counts


def counts():
    """Users in order of frequency; items anyhow, most of them met once or never."""
    random = np.random.default_rng(3)
    items = np.where(random.random(300) < 0.2, 9, random.integers(0, 2, 300))
    items[0] = 0  # the padding
    return {"user_id": np.maximum(40 - np.arange(400), 0) // 2, "item": items}


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "seen.safetensors"
    save_counts(counts(), path)
    return str(path)


@pytest.fixture(scope="module")
def flat(store):
    return capture(table_rankers.shop(), store, candidates=(1, 5))


@pytest.fixture(scope="module")
def folded(flat, store, counted):
    return run_stage("fold_rare_rows", {"counts": counted, "min_count": 2}, flat, store)


@pytest.fixture(scope="module")
def expected():
    """The ranker with the rare rows written over by their mean, by hand."""
    ranker = table_rankers.shop()
    with torch.no_grad():
        for name, table in (("user_id", ranker.module.user), ("item", ranker.module.item)):
            met = torch.from_numpy(counts()[name])
            rare = met < 2
            if name == "item":
                rare[0] = False  # the padding
            weights = met[rare, None].float()
            table.weight[rare] = (weights * table.weight[rare]).sum(0) / weights.sum()
    return ranker


def scores(artifact, batch):
    return open_predictor(artifact)(artifact.manifest.columns_of(batch))


def report_of(artifact):
    found = json.loads((artifact.folder / REPORT).read_text())["tables"]
    return {each["name"]: each for each in found}


class TestScores:
    def test_they_are_those_of_a_ranker_whose_rare_rows_are_their_mean(
        self, flat, folded, expected
    ):
        batch = sample_requests(table_rankers.SIGNATURE, [40, 3, 60])
        batch.user["history"][:, 3:] = 0
        wanted = expected.score(batch.flat())
        assert np.abs(wanted - scores(flat, batch)).max() > 0.1
        np.testing.assert_allclose(scores(folded, batch), wanted, atol=1e-5)

    def test_so_are_they_where_the_users_part_was_split_before_and_in_onnx(
        self, flat, expected, store, counted
    ):
        once = run_stage("user_once", {"when": "always"}, flat, store)
        folded = run_stage("fold_rare_rows", {"counts": counted}, once, store)
        batch = sample_requests(table_rankers.SIGNATURE, [4, 1, 20])
        for artifact in (folded, run_stage("export_onnx", {}, folded, store)):
            np.testing.assert_allclose(
                scores(artifact, batch), expected.score(batch.flat()), atol=1e-5
            )

    def test_codes_come_after(self, folded, expected, store):
        small = run_stage("quantize_tables", {"min_rows": 8}, folded, store)
        batch = sample_requests(table_rankers.SIGNATURE, [40, 3])
        difference = np.abs(scores(small, batch) - expected.score(batch.flat())).max()
        assert 1e-4 < difference < 0.4


class TestTables:
    def test_rows_in_order_of_frequency_need_no_places(self, folded):
        held = load_program(folded.model_path)
        tensors = held.state_dict | held.constants
        places = {name: x for name, x in tensors.items() if "places" in name}
        (items,) = places.values()
        assert "item" in next(iter(places))
        assert (items.dtype, tuple(items.shape)) == (torch.uint8, (300, 1))
        users = next(x for name, x in tensors.items() if name.endswith("table_user_folded"))
        assert tuple(users.shape) == (38, 7)  # 37 were met twice or more

    def test_bytes_of_the_places_are_counted(self, folded):
        found = report_of(folded)
        kept = int((counts()["item"] >= 2).sum()) + 1  # and the padding
        assert found["item"]["kept_rows"] == kept
        assert found["item"]["bytes_after"] == (kept + 1) * 64 + 300
        assert found["item"]["lookup_bytes_after"] == 65
        assert found["user"]["bytes_after"] == 38 * 28
        note = folded.manifest.notes[0]
        assert f"{400 - 37 + 300 - kept:,} of 700 rows in 2 of 6 tables" in note

    def test_padding_stays_exactly_zero(self, folded):
        graph, _ = open_tables(folded)
        columns = sample_requests(table_rankers.SIGNATURE, [9]).flat()
        columns["history"][:] = 0
        values = graph.run({name: torch.from_numpy(x) for name, x in columns.items()})
        past = [
            x
            for x in values.values()
            if isinstance(x, torch.Tensor) and x.is_floating_point() and x.shape == (9, 6, 16)
        ]
        assert past
        assert not any(x.any() for x in past)

    def test_what_is_not_counted_is_said(self, folded):
        found = report_of(folded)
        assert found["region"]["reason"] == "no counts of the IDs that read it"
        assert (found["item"]["counted"], found["item"]["uncounted"]) == (["item"], ["history"])
        assert "item is read by history too" in folded.manifest.notes[1]

    def test_one_without_enough_rare_rows_stays(self, flat, store, tmp_path):
        save_counts({"item": np.r_[np.full(290, 7), np.zeros(10)]}, tmp_path / "seen.safetensors")
        options = {"counts": str(tmp_path / "seen.safetensors")}
        found = report_of(run_stage("fold_rare_rows", options, flat, store))["item"]
        assert found["reason"] == "10 of 300 rows are rare: folding them saves too little"
        assert found["bytes_after"] == found["bytes_before"]

    def test_rows_that_were_never_met_weigh_the_same(self, flat, store, tmp_path):
        save_counts({"user_id": np.r_[np.full(100, 7), np.zeros(300)]}, tmp_path / "seen.st")
        artifact = run_stage("fold_rare_rows", {"counts": str(tmp_path / "seen.st")}, flat, store)
        held = load_program(artifact.model_path)
        users = next(
            x
            for name, x in (held.state_dict | held.constants).items()
            if name.endswith("table_user_folded")
        )
        mean = table_rankers.shop().module.user.weight[100:].mean(0)
        torch.testing.assert_close(users[-1], mean, check_dtype=False)


class Hashed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(100, 8)
        self.other = nn.Embedding(100, 8)

    def forward(self, item, tags):
        rows = self.table(item * 7 % 97 + 3) + self.table(item // 20) + self.table(item // 20)
        return (rows * self.other(tags).sum(1)).sum(1)


def test_rows_are_counted_through_what_is_done_to_ids(store):
    signature = Signature(
        (
            Feature("tags", "int64", (3,), side="user", cardinality=90, padding=5),
            Feature("item", "int64", side="item", cardinality=1000),
        ),
        score="logit",
    )
    random = np.random.default_rng(0)
    batch = RequestBatch(
        {"tags": random.integers(0, 90, (5, 3))},
        {"item": random.integers(0, 1000, 20)},
        np.arange(6) * 4,
        np.tile(np.float32([0, 1]), 10),
    )
    ranker = Ranker("hashed", Hashed().eval(), signature, batch)
    graph, tables = open_tables(capture(ranker, store, candidates=(1,)))
    met = np.arange(1000)
    found = {x.name: traffic_of(graph, x, signature, {"item": met}) for x in tables}
    expected = np.zeros(100, np.int64)
    np.add.at(expected, np.arange(1000) * 7 % 97 + 3, met)
    in_runs = np.bincount(np.arange(1000) // 20, met, minlength=100).astype(np.int64)
    expected = np.maximum(expected, in_runs)
    np.testing.assert_array_equal(found["table"].counts.numpy(), expected)
    assert found["table"].features == ("item",)
    assert found["other"].features == ()
    assert found["other"].kept.tolist() == [5]  # where an empty place is


@pytest.mark.parametrize("width", [1, 2, 3])
def test_places_come_back_from_their_bytes(width):
    places = torch.tensor([0, 1, 255, 256**width - 1, 256**width // 3])
    weights = torch.tensor([256**each for each in range(width)])
    assert torch.equal((in_bytes(places, width).long() * weights).sum(1), places)


class TestMistakes:
    def test_no_file(self, flat, store):
        with pytest.raises(UserError, match="counts is missing"):
            run_stage("fold_rare_rows", {}, flat, store)

    def test_a_file_that_is_not_there(self, flat, store):
        with pytest.raises(UserError, match=r"none\.safetensors cannot be read"):
            run_stage("fold_rare_rows", {"counts": "none.safetensors"}, flat, store)

    def test_a_count_of_nothing(self, flat, store, counted):
        with pytest.raises(UserError, match="min_count is 0"):
            run_stage("fold_rare_rows", {"counts": counted, "min_count": 0}, flat, store)
