from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner

from rankers.cli import main
from rankers.data.parquet import write_shards
from rankers.data.shard_forms import open_sharded
from rankers.data.shards import read_piece
from rankers.errors import UserError
from rankers.leaks import leaked_requests
from rankers.seen import count_ids
from rankers.training import TrainingOptions
from rankers.training.distributed import Share
from rankers.training.parts import hold_out
from rankers.training.shard_batches import ShardBatches
from rankers.zoo import train_zoo

OPTIONS = TrainingOptions(batch_rows=512, buffer_rows=3000)


def train_dlrm(log, options, **more):
    """Train a smaller one, whose state is quickly saved."""
    smaller = {"embedding": 8, "bottom": [16], "top": [32]}
    return train_zoo("dlrm", log, options, overrides=smaller, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return 20 row groups of about 1,200 rows in 4 files."""
    folder = tmp_path_factory.mktemp("log") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rankers.data.synthetic._BLOCK_REQUESTS", 10)
        write_shards(folder, 24_000, 4)
    return folder


@pytest.fixture(scope="module")
def log(folder):
    return open_sharded(folder)


def batches_of(log, *, share=None, whole=False, seed=0, batch_rows=500, workers=0, buffer=3000):
    return ShardBatches(
        log, log.pieces, batch_rows, buffer_rows=buffer, whole_requests=whole, seed=seed,
        share=share or Share(), device="cpu", workers=workers,
    )  # fmt: skip


def rows_of(batches):
    """Return all rows of batches as one sorted table: what they hold, whatever the order."""
    rows = [
        np.column_stack(
            [each.labels.numpy(), each.columns["dense"].numpy()]
            + [each.columns[f"C{n}"].numpy() for n in range(1, 27)]
        )
        for each in batches
    ]
    table = np.concatenate(rows)
    return table[np.lexsort(table.T)]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("processes", [1, 3])
def test_every_row_is_in_one_batch_and_all_processes_have_as_many(log, whole, processes):
    found = []
    for rank in range(processes):
        batches = batches_of(log, share=Share(rank, processes), whole=whole)
        mine = list(batches.epoch(1))
        assert len(mine) == len(batches)
        found.append(mine)
    assert len({len(each) for each in found}) == 1
    requests = log.read(log.pieces).requests
    whole_log = np.column_stack(
        [requests.labels, requests.flat()["dense"]]
        + [requests.flat()[f"C{n}"] for n in range(1, 27)]
    )
    expected = whole_log[np.lexsort(whole_log.T)]
    np.testing.assert_array_equal(rows_of([x for mine in found for x in mine]), expected)
    for step in zip(*found, strict=True):
        sizes = [len(each.labels) for each in step]
        assert all(sizes)
        if not whole:
            assert {each.rows for each in step} == {sum(sizes)}


def test_whole_requests_stay_together(log):
    counts = sorted(log.read(log.pieces).requests.candidates.tolist())
    found = []
    for batch in batches_of(log, whole=True).epoch(0):
        assert (batch.request.diff() >= 0).all()
        sizes = torch.bincount(batch.request)
        assert (sizes > 0).all()
        found += sizes.tolist()
    assert sorted(found) == counts


def test_the_order_follows_from_seed_and_epoch(log):
    def first(seed, epoch):
        return next(batches_of(log, seed=seed).epoch(epoch)).columns["C21"].tolist()

    assert first(0, 0) == first(0, 0)
    assert len({tuple(first(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_rows_of_different_pieces_and_places_are_mixed(log):
    rows = log.read(log.pieces).requests.flat()
    where = {}
    for place in range(len(rows["C1"])):
        where.setdefault(tuple(rows[f"C{n}"][place] for n in range(1, 27)), place)
    batch = next(batches_of(log).epoch(0))
    columns = [batch.columns[f"C{n}"].numpy() for n in range(1, 27)]
    places = [where[tuple(each)] for each in zip(*columns, strict=True)]
    ends = np.cumsum([each.rows for each in log.pieces])
    assert len(set(np.searchsorted(ends, places, side="right"))) == 2  # what the buffer holds
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.2


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("start", [0, 1, 7, 30, 48])
def test_an_epoch_goes_on_anywhere_as_it_would_have(log, whole, start):
    batches = batches_of(log, whole=whole)
    expected = list(batches.epoch(1))[start:]
    found = list(batches_of(log, whole=whole).epoch(1, start=start))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.request, other.request)
        assert all(torch.equal(x, other.columns[name]) for name, x in one.columns.items())


def test_going_on_reads_nothing_before_the_place_where_it_stood(log, monkeypatch):
    read = []

    def noted(form, piece, *, seed):
        read.append(piece)
        return read_piece(form, piece, seed=seed)

    monkeypatch.setattr("rankers.data.shards.read_piece", noted)
    batches = batches_of(log)
    next(batches.epoch(1, start=len(batches) - 1))
    assert len(read) <= 2  # of 20 pieces


def test_workers_read_the_same(log):
    alone, helped = list(batches_of(log).epoch(0)), list(batches_of(log, workers=1).epoch(0))
    assert len(alone) == len(helped)
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.columns["C17"], other.columns["C17"])


def test_ids_are_counted_once_also_by_who_goes_on(log):
    expected = count_ids(log.read(log.pieces).requests, log.signature)
    for start in (0, 5, 20):
        batches = batches_of(log)
        assert batches.seen() == {}
        for _ in batches.epoch(0, start=start):
            pass
        for _ in batches.epoch(1):
            pass
        found = batches.seen()
        assert all((found[name] == each).all() for name, each in expected.items())
        again = batches_of(log)
        again.restore(batches.state())
        assert all((again.seen()[name] == each).all() for name, each in expected.items())


def test_memory_is_that_of_the_buffer_and_not_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr("rankers.data.synthetic._BLOCK_REQUESTS", 3)
    write_shards(tmp_path / "shards", 60_000, 2)
    log = open_sharded(tmp_path / "shards")
    whole = log.read(log.pieces).requests
    held = [*whole.user.values(), *whole.items.values(), whole.labels]
    log_bytes = sum(each.nbytes for each in held)
    del whole, held
    next(batches_of(log, buffer=2000).epoch(1))  # imports and caches
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        for _ in batches_of(log, buffer=2000).epoch(1):
            pass
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
    # The log is 30 times the buffer, which is held twice while it is put together.
    assert most < log_bytes / 5
    assert 0 < pool.max_memory() < log_bytes / 5


def test_a_row_group_beyond_the_buffer_is_refused(log):
    with pytest.raises(UserError, match=r"row group 0 holds .* rows .* more than the buffer's 500"):
        batches_of(log, buffer=500)


def test_more_processes_than_row_groups_are_refused(log):
    with pytest.raises(UserError, match="21 processes, but only 20 row"):
        batches_of(log, share=Share(0, 21))


class TestHeldOut:
    def test_the_last_pieces_are_as_much_as_was_asked_for(self, log):
        learned, kept = hold_out(log.pieces, 0.2, replace(OPTIONS, buffer_rows=10**6))
        assert (*learned, *kept) == log.pieces
        assert sum(each.rows for each in kept) / log.rows == pytest.approx(0.2, abs=0.03)

    def test_it_is_never_more_than_the_buffer(self, log):
        _, kept = hold_out(log.pieces, 0.5, replace(OPTIONS, buffer_rows=3000))
        assert 1500 < sum(each.rows for each in kept) <= 3000

    def test_by_request_pieces_are_drawn(self, log):
        options = replace(OPTIONS, split_by="request", buffer_rows=10**6)
        learned, kept = hold_out(log.pieces, 0.2, options)
        assert sorted((*learned, *kept), key=log.pieces.index) == list(log.pieces)
        assert kept != log.pieces[-len(kept) :]

    def test_one_piece_cannot_be_split(self, log):
        with pytest.raises(UserError, match="at least 2 are needed"):
            hold_out(log.pieces[:1], 0.2, OPTIONS)


def weights(trained):
    return trained[0].module.state_dict()


def test_a_log_in_shards_is_trained_on_as_one_in_memory(log):
    in_shards = train_dlrm(log, OPTIONS)
    in_memory = train_dlrm(log.read(log.pieces), OPTIONS)
    assert in_shards[2].rows + in_shards[2].evaluation.rows == log.rows
    assert in_shards[2].best_auc is not None
    assert in_shards[2].quality.auc == pytest.approx(in_memory[2].quality.auc, abs=0.04)
    learned, _ = hold_out(log.pieces, 0.2, OPTIONS)
    expected = count_ids(log.read(learned).requests, log.signature)
    assert all((in_shards[0].seen[name] == each).all() for name, each in expected.items())
    calibration = in_shards[0].calibration
    assert len(calibration) > 0
    assert len(leaked_requests(calibration, in_shards[0].evaluation)) == 0


@pytest.mark.parametrize(("steps", "loss"), [(5, "pointwise"), (14, "listwise")])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    log, tmp_path, monkeypatch, steps, loss
):
    from rankers.training.learner import Learner

    log, options = log.first(6000), replace(OPTIONS, epochs=2, loss=loss)
    whole = train_dlrm(log, options)
    step, done = Learner.step, []

    def counted(self, batch):
        if len(done) == steps:
            raise RuntimeError
        done.append(1)
        return step(self, batch)

    path = tmp_path / "unfinished"
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", counted)
        with pytest.raises(RuntimeError):
            train_dlrm(log, options, resume=path, save_every_s=0)
    again = train_dlrm(log, options, resume=path, save_every_s=0)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name
    for name, counts in whole[0].seen.items():
        assert (counts == again[0].seen[name]).all()


def test_two_processes_train_on_shards_of_their_own(folder, tmp_path, monkeypatch):
    """This one and another; torchrun, which starts them for a person, is test_loop.py's."""
    arguments = [
        "train", "dlrm", "--data", str(folder), "--batch-rows", "512", "--buffer-rows", "3000",
        "--json", "--out", str(tmp_path / "two"),
    ]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    other = subprocess.Popen(
        [sys.executable, "-m", "rankers", *arguments],
        env=os.environ | together | {"RANK": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for name, value in (together | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    try:
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        _, said = other.communicate(timeout=120)
    finally:
        other.kill()
    assert (done.exit_code, other.returncode) == (0, 0), done.stderr + said
    training = json.loads(done.stdout)["training"]
    log = open_sharded(folder)
    learned, kept = hold_out(log.pieces, 0.2, OPTIONS)
    assert training["rows"] == sum(each.rows for each in learned)
    assert training["evaluation_rows"] == sum(each.rows for each in kept)
    assert training["closed"] > 0.2
    from rankers.checkpoint import load_checkpoint

    seen = load_checkpoint(tmp_path / "two").seen
    for name, counts in count_ids(log.read(learned).requests, log.signature).items():
        assert (seen[name] == counts).all(), name
