"""Loads on functions: what is counted, and from when."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

from bench.arrivals import constant
from bench.load import closed_loop, open_loop, still_memory
from bench.validation.virtual_clock import VirtualClock, VirtualServer


class Recorder:
    """A target that remembers its calls and how many were under way at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, request) -> None:
        with self._lock:
            self.calls.append(request)
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1


class TestClosedLoop:
    def test_sends_each_request_in_turn_over_all_threads(self):
        target = Recorder()
        result = closed_loop(target, ["a", "b", "c"], concurrency=2, count=9)
        assert sorted(target.calls) == sorted("abc" * 3)
        assert result.ok == 9
        assert np.bincount(result.index).tolist() == [3, 3, 3]

    def test_keeps_its_concurrency_and_no_more(self):
        target = Recorder(0.005)
        closed_loop(target, [0], concurrency=3, count=30)
        assert target.most == 3

    def test_ends_after_its_duration(self):
        result = closed_loop(Recorder(0.01), [0], concurrency=1, duration_s=0.1)
        assert 1 <= result.ok <= 10

    def test_does_not_count_warm_up(self):
        target = Recorder()
        result = closed_loop(target, [0], concurrency=2, count=10, warmup=6)
        assert len(target.calls) == 16
        assert result.ok == 10

    def test_has_no_waiting_and_no_generator_lag(self):
        result = closed_loop(Recorder(), [0], concurrency=1, count=10)
        assert result.response_s.tolist() == result.service_s.tolist()
        assert len(result.lag_s) == 0

    def test_needs_a_count_or_a_duration(self):
        with pytest.raises(ValueError, match="either"):
            closed_loop(Recorder(), [0], concurrency=1)


def test_one_worker_alone_calls_from_the_thread_that_called_the_target_before():
    # OpenMP's threads would sleep between loops if two threads had called (bench/load.py).
    here, called = threading.get_ident(), set()
    load = closed_loop(lambda _: called.add(threading.get_ident()), ["a"], concurrency=1, count=3)
    assert (load.ok, called) == (3, {here})

    open_loop(lambda _: called.add(threading.get_ident()), ["a"], schedule_s=np.zeros(3), workers=1)
    assert called == {here}


class TestOpenLoop:
    def test_sends_whether_or_not_earlier_requests_were_answered(self):
        target = Recorder(0.1)
        open_loop(target, [0], schedule_s=constant(200, count=10), workers=10)
        assert target.most >= 5

    def test_counts_from_the_due_time_so_that_a_stall_shows_in_all_it_held_up(self):
        clock = VirtualClock()
        stalling = VirtualServer(clock, [0.5 if each == 20 else 0.0 for each in range(100)])
        schedule = constant(100, count=100)
        result = open_loop(stalling, [0], schedule_s=schedule, workers=1, clock=clock)
        # One request was slow to serve, but 50 were due while it blocked the only worker.
        assert (result.service_s > 0).sum() == 1
        assert result.response_s[20:71] == pytest.approx(np.arange(0.5, -0.001, -0.01), abs=1e-9)
        assert result.late in {49, 50}  # the last is due just as the stall ends
        assert (result.response_s[71:] < 1e-9).all()

    def test_a_closed_loop_is_blind_to_the_same_stall(self):
        clock = VirtualClock()
        stalling = VirtualServer(clock, [0.5 if each == 20 else 0.0 for each in range(100)])
        result = closed_loop(stalling, [0], concurrency=1, count=100, clock=clock)
        assert (result.response_s > 0).sum() == 1

    def test_goes_on_in_the_requests_where_it_is_told_to_begin(self):
        for loop in ("closed", "open"):
            target = Recorder()
            if loop == "closed":
                result = closed_loop(target, list("abcde"), concurrency=1, count=3, first=4)
            else:
                schedule = constant(1000, count=3)
                result = open_loop(target, list("abcde"), schedule_s=schedule, workers=1, first=4)
            assert target.calls == ["e", "a", "b"]
            assert result.index.tolist() == [4, 0, 1]

    def test_warms_up_with_the_requests_before_the_first(self):
        target = Recorder()
        closed_loop(target, list("abcde"), concurrency=1, count=2, warmup=2)
        assert target.calls == ["d", "e", "a", "b"]

    def test_never_sends_before_the_due_time(self):
        result = open_loop(Recorder(), [0], schedule_s=constant(500, count=50), workers=4)
        assert (result.started_s >= result.intended_s).all()
        assert (result.lag_s >= 0).all()
        assert result.intended_s == pytest.approx(np.arange(1, 51) / 500)

    def test_answers_come_in_the_order_of_their_due_times(self):
        requests = list(range(20))
        result = open_loop(
            Recorder(0.003), requests, schedule_s=constant(1000, count=20), workers=5
        )
        assert result.index.tolist() == requests

    def test_gives_up_what_is_too_late_and_counts_it(self):
        target = Recorder(0.05)
        result = open_loop(
            target, [0], schedule_s=constant(1000, count=100), workers=1, drop_after_s=0.1
        )
        assert result.dropped > 50
        assert result.ok + result.dropped == 100
        assert len(target.calls) == result.ok

    def test_lag_is_of_arrivals_a_free_worker_waited_for_and_late_are_the_others(self):
        result = open_loop(Recorder(0.01), [0], schedule_s=constant(1000, count=50), workers=1)
        assert len(result.lag_s) + result.late == 50
        assert result.late > 30

    def test_does_not_count_warm_up(self):
        target = Recorder()
        result = open_loop(target, [0], schedule_s=constant(1000, count=10), workers=2, warmup=8)
        assert len(target.calls) == 18
        assert result.ok == 10


class TestErrors:
    @pytest.mark.parametrize("loop", ["closed", "open"])
    def test_are_counted_apart_with_the_most_frequent_messages(self, loop):
        calls = iter(range(1000))

        def fail_sometimes(_) -> None:
            number = next(calls)
            if number % 5 == 0:
                raise ValueError(f"kind {number % 4}")

        if loop == "closed":
            result = closed_loop(fail_sometimes, [0], concurrency=1, count=100)
        else:
            schedule = constant(5000, count=100)
            result = open_loop(fail_sometimes, [0], schedule_s=schedule, workers=1)
        assert (result.ok, result.errors) == (80, 20)
        assert len(result.response_s) == 80
        assert len(result.error_messages) == 3
        assert all(each.startswith("ValueError: kind") for each in result.error_messages)

    def test_in_warm_up_are_not_counted(self):
        calls = iter(range(1000))

        def cold(_) -> None:
            if next(calls) < 5:
                raise RuntimeError("cold")

        result = closed_loop(cold, [0], concurrency=1, count=10, warmup=5)
        assert (result.ok, result.errors) == (10, 0)

    def test_of_all_requests_leave_an_empty_result(self):
        def refuse(_) -> None:
            raise ConnectionError("gone")

        result = closed_loop(refuse, [0], concurrency=2, count=10)
        assert (result.ok, result.errors) == (0, 10)
        assert result.error_messages == ("ConnectionError: gone",)


def test_an_interrupt_in_a_worker_ends_the_load():
    def interrupt(_) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        closed_loop(interrupt, [0], concurrency=1, count=10)


def test_the_collector_walks_the_prepared_requests_again_after_a_load():
    closed_loop(Recorder(), [0], concurrency=1, count=1)
    assert gc.get_freeze_count() == 0


def test_memory_stays_still_through_all_rounds_and_is_let_go_at_the_end():
    assert gc.get_freeze_count() == 0
    with still_memory():
        with still_memory():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
