"""The course of a run, small enough to keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load import LoadResult
from bench.measure import Load, measure
from bench.targets import CallableTarget
from bench.timeline import MOST_SLICES, Timeline, follow, overlay, record
from rankers.errors import UserError


def result(intended_s, response_s, behind_s=0.0, duration_s=None):
    intended_s, response_s = np.asarray(intended_s, float), np.asarray(response_s, float)
    finished = intended_s + response_s
    return LoadResult(
        index=np.zeros(len(intended_s), np.int64),
        intended_s=intended_s,
        started_s=intended_s + behind_s,
        finished_s=finished,
        lag_s=np.empty(0),
        errors=0,
        error_messages=(),
        late=0,
        dropped=0,
        duration_s=duration_s or float(finished.max(initial=0.0)),
    )


@st.composite
def timelines(draw):
    seed, count = draw(st.integers(0, 10**6)), draw(st.integers(1, 3000))
    random = np.random.default_rng(seed)
    due = np.sort(random.random(count) * draw(st.floats(0.001, 60)))
    return record(result(due, random.exponential(draw(st.floats(1e-6, 1)), count)))


class TestARun:
    def test_has_every_request_in_a_slice_that_its_due_time_lies_in(self):
        timeline = record(result(np.arange(1000) / 100, np.full(1000, 0.004)))
        assert timeline.counts.sum() == 1000
        assert len(timeline.length_ns) <= 100  # ten requests in each, on average
        edges = timeline.edges_s
        expected, _ = np.histogram(np.arange(1000) / 100, edges)
        assert np.abs(timeline.counts - expected).max() <= 1  # edges are floats
        assert edges[-1] == pytest.approx(9.99 + 0.004)

    def test_shows_a_stall_where_it_was(self):
        response = np.full(1000, 0.003)
        response[500:520] = 0.4
        timeline = record(result(np.arange(1000) / 100, response, behind_s=0.001))
        slowest = timeline.slowest_ns / 1e9
        inside = (timeline.edges_s[1:] > 5.0) & (timeline.edges_s[:-1] < 5.2)
        assert (slowest[inside].max(), slowest[~inside].max()) == (0.4, 0.003)
        assert (timeline.behind_ns == 1_000_000).all()

    def test_knows_a_median_to_within_a_bucket(self):
        random = np.random.default_rng(0)
        response = random.lognormal(-6, 1, 5000)
        timeline = record(result(np.full(5000, 0.5), response, duration_s=0.5))
        found = timeline.quantile_us(0.5)[timeline.counts > 0]
        assert found == pytest.approx([np.median(response) * 1e6], rel=0.07)

    def test_without_an_answer_has_none(self):
        assert record(result([], [])) is None

    @given(timelines())
    def test_has_few_slices_and_comes_back_from_json(self, timeline):
        assert 1 <= len(timeline.length_ns) <= MOST_SLICES + 1
        again = Timeline.from_json(timeline.to_json())
        for name in ("length_ns", "slowest_ns", "behind_ns", "buckets"):
            assert np.array_equal(getattr(again, name), getattr(timeline, name))

    def test_is_measured(self, workload):
        def score(request):
            return np.zeros(request.candidates)

        found = measure(CallableTarget("nothing", score), workload, Load(count=50, warmup=1))
        assert found.timeline.counts.sum() == found.counts.ok


class TestJoined:
    @given(st.lists(timelines(), min_size=1, max_size=6))
    def test_one_after_another_nothing_is_lost(self, parts):
        joined = follow(parts)
        assert (
            joined.buckets.sum(axis=0).tolist()
            == sum(p.buckets.sum(axis=0) for p in parts).tolist()
        )
        assert joined.slowest_ns.max() == max(each.slowest_ns.max() for each in parts)
        assert joined.length_ns.sum() == sum(each.length_ns.sum() for each in parts)
        assert len(joined.length_ns) <= MOST_SLICES

    @given(st.lists(timelines(), min_size=1, max_size=4))
    def test_at_the_same_time_nothing_is_lost_either(self, parts):
        joined = overlay(parts)
        assert joined.counts.sum() == sum(each.counts.sum() for each in parts)
        assert joined.slowest_ns.max() == max(each.slowest_ns.max() for each in parts)
        assert joined.length_ns.sum() <= 1.5e9 * max(each.width_s for each in parts) + max(
            each.length_ns.sum() for each in parts
        )

    def test_processes_that_began_together_share_their_slices(self):
        half = record(result(np.arange(0, 1000, 2) / 100, np.full(500, 0.01), duration_s=10.0))
        other = record(result(np.arange(1, 1000, 2) / 100, np.full(500, 0.01), duration_s=10.0))
        both = overlay([half, other])
        assert (both.counts == half.counts + other.counts).all()

    @pytest.mark.parametrize("join", [follow, overlay])
    def test_with_a_part_that_has_none_there_is_none(self, join):
        part = record(result([0.0], [0.1]))
        assert join([part, None]) is None
        assert join([]) is None


class TestAFile:
    def test_of_before_or_of_a_later_version_is_read_without(self):
        data = record(result([0.0], [0.1])).to_json()
        assert Timeline.from_json(None) is None
        assert Timeline.from_json(data | {"schema": 99}) is None

    def test_that_is_cut_is_refused(self):
        data = record(result([0.0], [0.1])).to_json()
        with pytest.raises(UserError, match="7 slices"):
            Timeline.from_json(data | {"slices": 7})
