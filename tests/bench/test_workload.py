"""Workloads drawn from logged requests."""

from __future__ import annotations

import numpy as np
import pytest

from bench.workload import draw_workload
from rankers.errors import UserError


def test_the_same_seed_sends_the_same_bytes_and_another_seed_others(log):
    checksums = [
        draw_workload(log, candidates=5, seed=seed).describe()["sha256"] for seed in (1, 1, 2)
    ]
    assert checksums[0] == checksums[1] != checksums[2]


def test_requests_keep_their_own_candidates_unless_told_otherwise(log):
    drawn = draw_workload(log, distinct=40).requests
    assert sorted(drawn.candidates) == sorted(log.candidates)
    assert drawn.labels is None


def test_every_request_gets_the_number_of_candidates_asked_for(log):
    drawn = draw_workload(log, candidates=6, distinct=20)
    assert drawn.requests.candidates.tolist() == [6] * 20
    assert drawn.name == "6 candidates"


def test_own_candidates_are_all_kept_as_far_as_they_are_wanted(log):
    drawn = draw_workload(log, candidates=4, distinct=40).requests
    for request in drawn:
        user = np.flatnonzero(log.user["age"] == request.user["age"])[0]
        own = {tuple(row) for row in log[user].items["price"]}
        got = [tuple(row) for row in request.items["price"]]
        assert len(own.intersection(got)) >= min(4, len(own))


def test_missing_candidates_are_drawn_from_the_whole_log(log):
    drawn = draw_workload(log, candidates=50, distinct=10).requests
    known = {tuple(row) for row in log.items["price"]}
    for request in drawn:
        got = {tuple(row) for row in request.items["price"]}
        assert got <= known
        assert len(got) > 25


def test_a_description_says_the_spread(log):
    described = draw_workload(log, distinct=40).describe()
    assert described["requests"] == 40
    assert described["candidates_min"] == log.candidates.min()
    assert described["candidates_max"] == log.candidates.max()


@pytest.mark.parametrize("options", [{"candidates": 0}, {"distinct": 0}])
def test_numbers_below_one_are_refused(log, options):
    with pytest.raises(UserError, match="1 or more"):
        draw_workload(log, **options)


def test_an_empty_log_is_refused(log):
    with pytest.raises(UserError, match="no requests"):
        draw_workload(log.slice(0, 0))
