"""The attempts of one request, on a clock and before replicas of the test's own."""

from collections import Counter
from random import Random
from types import SimpleNamespace

import grpc
import pytest

from client.attempts import Attempts
from client.completions import Ended
from client.errors import ServerOverloaded
from client.policies import Policies

ANSWER = Ended(b"scores")
DOWN = Ended(None, grpc.StatusCode.UNAVAILABLE, "connection refused")
QUEUE_FULL = Ended(None, grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
WRONG = Ended(None, grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape")
TOO_LATE = Ended(None, grpc.StatusCode.UNAVAILABLE, "Request timeout expired")


class Before:
    """What attempts see of a fleet: which replica is next, and what a budget allows."""

    def __init__(self, replicas, *, budget=10, p95=None, policies=None):
        self.replicas, self.several = list(range(replicas)), replicas > 1
        self.policies = policies or Policies()
        self.p95 = SimpleNamespace(seconds=p95)
        self.random = Random(0)
        self.budget, self.lates, self.counts = budget, [], Counter()
        self.sent = []
        self.busy = False

    def requested(self):
        self.counts["requests"] += 1

    def count(self, what):
        self.counts[what] += 1

    def take_extra(self, what):
        self.counts[what] += self.budget > 0
        self.budget -= 1
        return self.budget >= 0

    def pick(self, but=frozenset(), *, extra=""):
        if self.busy:
            raise ServerOverloaded("busy")
        left = [each for each in self.replicas if each not in but]
        return left[0] if left and (not extra or self.take_extra(extra)) else None

    def late(self, place):
        self.lates.append(place)

    def ask(self, deadline=10.0):
        attempts = Attempts(self, deadline, lambda place, attempt: self.sent.append(place))
        attempts.begin(0.0)
        return attempts


def test_an_answer_ends_it():
    fleet = Before(2)
    attempts = fleet.ask()
    assert not attempts.done
    attempts.heard(0, ANSWER, 0.1)
    assert attempts.done
    assert attempts.ended is ANSWER
    assert fleet.sent == [0]


@pytest.mark.parametrize("failure", [DOWN, QUEUE_FULL])
def test_a_failure_that_is_nobodys_fault_is_asked_elsewhere_after_a_wait(failure):
    fleet = Before(3)
    attempts = fleet.ask()
    attempts.heard(0, failure, 0.0)
    assert not attempts.done
    assert fleet.sent == [0]
    assert 0 <= attempts.wake_at <= 0.002
    attempts.woke(0.002)
    assert fleet.sent == [0, 1]
    attempts.heard(1, ANSWER, 0.1)
    assert attempts.ended is ANSWER
    assert attempts.place == 1
    assert fleet.counts["retries"] == 1


@pytest.mark.parametrize("failure", [WRONG, TOO_LATE])
def test_a_failure_that_another_replica_would_repeat_is_not_retried(failure):
    fleet = Before(2)
    attempts = fleet.ask()
    attempts.heard(0, failure, 0.0)
    assert attempts.ended is failure
    assert fleet.sent == [0]


@pytest.mark.parametrize(
    "fleet",
    [Before(1), Before(2, budget=0), Before(2, policies=Policies(retry=False))],
    ids=["one replica", "no budget", "turned off"],
)
def test_there_is_no_retry_without_leave(fleet):
    attempts = fleet.ask()
    attempts.heard(0, DOWN, 0.0)
    assert attempts.ended is DOWN
    assert fleet.sent == [0]


def test_retries_end():
    fleet = Before(2, budget=100)
    attempts, now = fleet.ask(), 0.0
    for attempt in range(6):
        attempts.heard(attempt, DOWN, now)
        now += 0.2
        attempts.woke(now)
    assert attempts.ended is DOWN
    assert fleet.counts["retries"] == 5


def test_a_hedge_goes_out_after_the_p95_and_its_loser_is_left_alone():
    fleet = Before(2, p95=0.05)
    attempts = fleet.ask()
    assert attempts.wake_at == 0.05
    attempts.woke(0.049)
    assert fleet.sent == [0]
    attempts.woke(0.05)
    assert fleet.sent == [0, 1]
    attempts.heard(1, ANSWER, 0.06)
    assert attempts.place == 1
    assert fleet.counts == {"requests": 1, "hedges": 1, "hedges_won": 1}
    assert fleet.lates == [0]
    attempts.heard(0, ANSWER, 5.0)
    assert attempts.place == 1


def test_a_first_attempt_that_wins_after_all_blames_nobody():
    fleet = Before(2, p95=0.05)
    attempts = fleet.ask()
    attempts.woke(0.05)
    attempts.heard(0, ANSWER, 0.06)
    assert (attempts.place, fleet.lates, fleet.counts["hedges_won"]) == (0, [], 0)


def test_a_failed_hedge_leaves_the_first_attempt_to_its_end():
    fleet = Before(2, p95=0.05)
    attempts = fleet.ask()
    attempts.woke(0.05)
    attempts.heard(1, DOWN, 0.06)
    assert not attempts.done
    attempts.heard(0, ANSWER, 0.1)
    assert attempts.ended is ANSWER


@pytest.mark.parametrize(
    "fleet",
    [
        Before(1, p95=0.05),
        Before(2, p95=0.05, policies=Policies(hedge=False)),
    ],
    ids=["one replica", "turned off"],
)
def test_there_is_no_hedge_without_leave(fleet):
    attempts = fleet.ask()
    attempts.woke(0.05)
    assert fleet.sent == [0]
    assert attempts.wake_at == 10.0


@pytest.mark.parametrize("hindrance", ["budget", "busy"])
def test_a_hedge_that_cannot_go_out_now_goes_out_later(hindrance):
    fleet = Before(2, p95=0.05, budget=0 if hindrance == "budget" else 10)
    fleet.busy = False
    attempts = fleet.ask()
    fleet.busy = hindrance == "busy"
    attempts.woke(0.05)
    assert fleet.sent == [0]
    waits = [attempts.wake_at - 0.05]
    for _ in range(5):
        now = attempts.wake_at
        attempts.woke(now)
        waits.append(attempts.wake_at - now)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5, 0.5])
    fleet.busy, fleet.budget = False, 10
    attempts.woke(attempts.wake_at)
    assert fleet.sent == [0, 1]


def test_all_attempts_share_one_deadline():
    fleet = Before(2, p95=0.05)
    attempts = fleet.ask(deadline=0.08)
    attempts.woke(0.05)
    assert attempts.wake_at == 0.08
    attempts.woke(0.08)
    assert attempts.late
    assert fleet.lates == [0, 1]
    assert fleet.counts["late"] == 1


def test_nothing_is_sent_when_no_time_is_left():
    fleet = Before(2)
    assert fleet.ask(deadline=0.0).late
    assert fleet.sent == []


def test_a_retry_into_full_limits_ends_with_the_failure():
    fleet = Before(2)
    attempts = fleet.ask()
    attempts.heard(0, DOWN, 0.0)
    fleet.busy = True
    attempts.woke(0.01)
    assert attempts.ended is DOWN
