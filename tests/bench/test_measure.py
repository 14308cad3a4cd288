"""Measuring targets, alone and in turn."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bench.measure import Load, measure, measure_interleaved
from bench.targets import CallableTarget
from bench.workload import draw_workload
from rankers.errors import UserError
from rankers.requests import RequestBatch


def scores(request):
    return request.items["price"][:, 0]


def slowly(request):
    time.sleep(0.005)
    return scores(request)


FAST, SLOW = CallableTarget("fast", scores), CallableTarget("slow", slowly)


class TestMeasure:
    def test_counts_requests_and_candidates(self, workload):
        found = measure(FAST, workload, Load(count=40, warmup=0), command="me")
        assert (found.counts.ok, found.counts.candidates) == (40, 120)
        assert found.response.count == found.service.count == 40
        assert found.target["name"] == "fast"
        assert found.command == "me"

    def test_candidates_are_those_of_the_requests_that_were_answered(self, log):
        from bench.workload import draw_workload

        ragged = draw_workload(log, distinct=7)
        found = measure(FAST, ragged, Load(count=14, warmup=0))
        assert found.counts.candidates == 2 * ragged.requests.rows

    def test_in_an_open_loop_records_lag_and_the_rate(self, workload):
        found = measure(FAST, workload, Load(count=50, rate_per_s=1000, warmup=0))
        assert found.load["mode"] == "open"
        assert found.lag.count + found.counts.late == 50

    def test_a_duration_at_a_rate_is_so_many_arrivals(self, workload):
        load = Load(count=None, duration_s=0.2, rate_per_s=500, warmup=0)
        assert measure(FAST, workload, load).counts.sent == 100

    def test_a_target_in_process_serves_one_request_at_a_time(self, workload):
        found = measure(SLOW, workload, Load(count=20, rate_per_s=2000, warmup=0))
        assert found.counts.late >= 15

    @pytest.mark.parametrize(
        "bad",
        [
            lambda r: np.full(r.candidates, np.nan),
            lambda r: np.zeros((r.candidates, 1)),
            lambda r: np.zeros(r.candidates + 1),
        ],
    )
    def test_nothing_is_timed_that_does_not_score(self, workload, bad):
        with pytest.raises(UserError, match="nothing was timed"):
            measure(CallableTarget("bad", bad), workload, Load(count=10))


class TestInterleaved:
    def test_gives_one_measurement_for_each_target_and_ratios_to_the_first(self, workload):
        found = measure_interleaved([FAST, SLOW], workload, Load(count=400, warmup=0), rounds=20)
        assert [each.name for each in found.measurements] == ["fast", "slow"]
        assert [each.counts.ok for each in found.measurements] == [400, 400]
        assert [(each.target, each.quantile) for each in found.ratios] == [
            ("slow", 0.5),
            ("slow", 0.99),
        ]
        median = found.ratios[0]
        assert (median.rounds, median.verdict) == (20, "slower")
        assert median.low > 1
        assert median.low <= median.value <= median.high
        assert found.measurements[0].rounds == (20,) * 20

    def test_turns_are_drawn_and_every_target_has_one_in_each_round(self, workload):
        turns = []
        targets = [CallableTarget(name, scores) for name in "abc"]
        load = Load(count=30, warmup=0)
        measure_interleaved(targets, workload, load, rounds=10, say=turns.append)
        rounds = [
            "".join(turn[-1] for turn in turns[start : start + 3]) for start in range(0, 30, 3)
        ]
        assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
        assert len(set(rounds)) > 1

    def test_leaves_out_ratios_of_percentiles_below_their_floor(self, workload):
        found = measure_interleaved([FAST, SLOW], workload, Load(count=20, warmup=0), rounds=2)
        assert [each.quantile for each in found.ratios] == [0.5]

    def test_each_round_draws_other_arrivals(self, workload):
        found = measure_interleaved(
            [FAST], workload, Load(count=40, rate_per_s=2000, warmup=0), rounds=2
        )
        assert found.measurements[0].counts.sent == 40

    def test_rounds_go_on_in_the_workload_and_are_the_same_requests_for_all(self, workload):
        sent = {"a": [], "b": []}

        def target(name):
            def score(request):
                sent[name].append(float(request.items["price"][0, 0]))
                return scores(request)

            return CallableTarget(name, score)

        load = Load(count=12, warmup=0)
        measure_interleaved([target("a"), target("b")], workload, load, rounds=4)
        prices = [float(each.items["price"][0, 0]) for each in workload.requests]
        # Each was looked at with the first request; ten requests, sent in their order again.
        assert sent["a"] == sent["b"] == [prices[0], *prices, *prices[:2]]

    def test_the_baseline_can_be_named(self, workload):
        load = Load(count=100, warmup=0)
        found = measure_interleaved([FAST, SLOW], workload, load, rounds=10, baseline="slow")
        assert [(r.target, r.baseline, r.verdict) for r in found.ratios] == [
            ("fast", "slow", "faster")
        ]

    def test_short_rounds_are_the_default(self, workload):
        found = measure_interleaved([FAST, SLOW], workload, Load(count=600, warmup=0))
        assert found.measurements[0].rounds == (50,) * 12

    def test_turns_of_different_warm_up_are_one_measurement(self, workload):
        found = measure_interleaved([FAST], workload, Load(count=40, warmup=30), rounds=4)
        assert found.measurements[0].load["warmup"] == 30

    @pytest.mark.parametrize("targets", [[], [FAST, FAST]])
    def test_refuses_none_and_two_of_one_name(self, workload, targets):
        with pytest.raises(UserError, match="name of its own"):
            measure_interleaved(targets, workload, Load(count=10))


@pytest.mark.parametrize(
    "options",
    [
        {"count": 0},
        {"count": None},
        {"count": 5, "duration_s": 1.0},
        {"concurrency": 0},
        {"rate_per_s": -1.0},
        {"warmup": -1},
    ],
)
def test_a_load_that_is_none_is_refused(options):
    with pytest.raises(UserError):
        Load(**options)


def test_a_slow_first_call_of_each_size_is_counted_unless_it_was_warmed_up(log, virtual_time):
    def compiling():
        """Make a target that takes long for each number of candidates it has not seen."""
        seen = set()

        def score(request):
            if request.candidates not in seen:
                seen.add(request.candidates)
                virtual_time.pass_by(0.03)
            virtual_time.pass_by(0.001)
            return np.zeros(request.candidates)

        return CallableTarget("compiling", score)

    sizes = len(np.unique(log.candidates))
    workload = draw_workload(log)
    cold = measure(compiling(), workload, Load(count=80, warmup=0))
    warm = measure(compiling(), workload, Load(count=80, warmup=len(workload.requests)))
    assert cold.unwarmed == sizes - 1  # the first request is looked at before
    assert warm.unwarmed == 0


def test_large_requests_that_take_long_by_nature_are_no_cold_ones(virtual_time):
    sizes = np.concatenate([np.full(150, 1), np.arange(2, 52)])  # each large size comes once
    log = RequestBatch(
        user={"age": np.zeros(200, dtype=np.float32)},
        items={"price": np.zeros((int(sizes.sum()), 2), dtype=np.float32)},
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
    )

    def score(request):
        virtual_time.pass_by(0.0002 * request.candidates)
        return np.zeros(request.candidates)

    target = CallableTarget("proportional", score)
    found = measure(target, draw_workload(log), Load(count=200, warmup=1))
    assert found.unwarmed == 0  # by nature 45 take three times the median


def test_cpu_of_the_caller_is_measured(log):
    def busy(request):
        until = time.process_time() + 0.002
        while time.process_time() < until:
            pass
        return np.zeros(request.candidates)

    found = measure(CallableTarget("busy", busy), draw_workload(log), Load(count=20, warmup=1))
    assert found.cpu_us_per_request >= 2000
    assert found.bytes_per_request is None
