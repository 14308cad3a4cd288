"""Each policy alone, on a clock of the test's own."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policies import Policies
from client.policies.backoff import backoff_s
from client.policies.balancing import Full, Replica, can_spare, pick
from client.policies.budget import ExtraLoad
from client.policies.ejection import Health
from client.policies.hedging import RollingP95
from client.policies.limit import GradientLimit
from rankers.errors import UserError


@given(st.lists(st.booleans(), max_size=400), st.floats(0, 1))
def test_extra_calls_never_exceed_their_share_and_the_reserve(asks, share):
    budget = ExtraLoad(share)
    taken = 0
    for requests, extra in enumerate(asks, start=1):
        budget.requested()
        taken += extra and budget.take()
        assert taken <= share * requests + 10
    if not share:
        assert not taken


def test_a_spent_budget_fills_with_requests():
    budget = ExtraLoad(0.1)
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(11):
        budget.requested()
    assert [budget.take(), budget.take()] == [True, False]


class TestTheRollingP95:
    def test_is_unknown_until_there_are_enough_answers(self):
        p95 = RollingP95()
        for _ in range(49):
            p95.answered(1.0)
        assert p95.seconds is None
        p95.answered(1.0)
        assert p95.seconds == 1.0

    def test_is_that_of_the_last_answers_only(self):
        p95 = RollingP95()
        for _ in range(512):
            p95.answered(9.0)
        for place in range(512):
            p95.answered(place / 512)
        assert p95.seconds == pytest.approx(0.95, abs=0.01)


class TestTheGradientLimit:
    def test_grows_while_answers_stay_as_quick(self):
        limit = GradientLimit()
        for _ in range(1000):
            limit.answered(0.01, limit.limit)
        assert limit.limit > 50

    def test_falls_when_answers_slow_down_and_never_below_the_least(self):
        limit = GradientLimit()
        for _ in range(600):
            limit.answered(0.01, limit.limit)
        before = limit.limit
        for _ in range(400):
            limit.answered(0.2, limit.limit)
        assert limit.limit < before / 2
        for _ in range(1000):
            limit.refused()
        assert limit.limit == 4

    def test_stays_where_it_is_not_what_limits(self):
        limit = GradientLimit()
        for _ in range(200):
            limit.answered(0.01, 1)
        assert limit.limit == 20

    def test_finds_the_usual_again_after_a_crisis(self):
        limit = GradientLimit()
        for _ in range(600):
            limit.answered(1.0, limit.limit)
        for _ in range(600):
            limit.answered(0.01, limit.limit)
        assert limit._usual_s < 0.02

    def test_takes_what_is_answered_under_overload_for_no_more_usual_than_it_is(self):
        limit = GradientLimit()
        for _ in range(100):
            limit.answered(0.01, 1)
        for _ in range(5000):
            limit.answered(0.1, limit.limit)
        assert limit.limit < 10
        for _ in range(1000):  # found so with little to do: it did become slower
            limit.answered(0.1, 1)
        assert limit._usual_s > 0.09


class TestHealth:
    def test_a_replica_that_is_not_reached_is_ejected_at_once_and_probed_later(self):
        health = Health(0.5, 5.0)
        health.unreachable(100.0)
        assert health.ejected
        assert not health.take_probe(100.4)
        assert health.take_probe(100.6)
        assert not health.take_probe(100.7)  # one probe at a time
        health.probed(100.8, ready=True)
        assert not health.ejected

    def test_each_failed_probe_doubles_the_wait_up_to_ten_seconds(self):
        health, now, waits = Health(0.5, 5.0), 0.0, []
        health.unreachable(now)
        for _ in range(8):
            began = now
            while not health.take_probe(now):
                now += 0.01
            waits.append(now - began)
            health.probed(now, ready=False)
        assert waits == pytest.approx([0.5, 1, 2, 4, 8, 10, 10, 10], abs=0.02)

    def test_its_share_grows_back(self):
        health = Health(0.5, 5.0)
        assert health.weight(0.0) == 1.0
        health.unreachable(0.0)
        assert health.take_probe(1.0)
        health.probed(1.0, ready=True)
        assert [health.weight(t) for t in (1.0, 3.5, 6.0, 7.0)] == [0.1, 0.5, 1.0, 1.0]

    def test_answers_late_three_times_in_a_row_eject_it(self):
        health = Health(0.5, 5.0)
        health.late(0.0, spare=True)
        health.late(0.0, spare=True)
        health.answered(0.01)
        health.late(0.0, spare=True)
        health.late(0.0, spare=True)
        assert not health.ejected
        health.late(0.0, spare=True)
        assert health.ejected

    def test_late_answers_eject_none_that_cannot_be_spared(self):
        health = Health(0.5, 5.0)
        for _ in range(10):
            health.late(0.0, spare=False)
        assert not health.ejected

    def test_a_call_that_goes_on_for_too_long_ejects_it(self):
        health = Health(0.5, 5.0)
        health.waits(10.0, 0.03, 10.29)
        assert not health.ejected
        health.waits(10.0, 0.03, 10.31)
        assert health.ejected
        assert health.take_probe(12.0)
        health.probed(12.0, ready=True)
        health.waits(10.0, 0.02, 13.0)  # that call is from before it came back
        assert not health.ejected
        health.waits(12.5, 0.02, 13.0)
        assert health.ejected

    @pytest.mark.parametrize(("latency_s", "ejected"), [(0.03, False), (0.05, True)])
    def test_one_much_slower_than_the_others_is_ejected(self, latency_s, ejected):
        slow, *others = (Health(0.5, 5.0) for _ in range(3))
        for _ in range(40):
            slow.answered(latency_s)
            for each in others:
                each.answered(0.01)
        for each in others:
            each.compare([slow, *(other for other in others if other is not each)], 0.0)
        slow.compare(others, 0.0)
        assert [each.ejected for each in (slow, *others)] == [ejected, False, False]


class TestPicking:
    def test_prefers_the_one_with_less_to_do(self):
        replicas = [Replica(Policies()) for _ in range(2)]
        replicas[0].under_way = 3
        assert {pick(replicas, 0.0, Random(seed)) for seed in range(20)} == {1}

    def test_keeps_many_replicas_about_even(self):
        replicas = [Replica(Policies()) for _ in range(5)]
        random = Random(1)
        for _ in range(1000):
            replicas[pick(replicas, 0.0, random)].under_way += 1
        loads = [each.under_way for each in replicas]
        assert max(loads) - min(loads) <= 6

    def test_leaves_the_ejected_alone_unless_all_are(self):
        replicas = [Replica(Policies()) for _ in range(3)]
        replicas[0].health.unreachable(0.0)
        replicas[1].health.unreachable(0.0)
        assert {pick(replicas, 0.0, Random(seed)) for seed in range(20)} == {2}
        assert pick(replicas, 0.0, Random(0), but=frozenset({2})) is None
        replicas[2].health.unreachable(0.0)
        assert {pick(replicas, 0.0, Random(seed)) for seed in range(30)} == {0, 1, 2}

    def test_asks_a_slow_one_before_one_that_is_gone(self):
        replicas = [Replica(Policies()) for _ in range(3)]
        for each in replicas:
            each.health.unreachable(0.0)
        slow = replicas[1] = Replica(Policies())
        for _ in range(3):
            slow.health.late(0.0, spare=True)
        slow.under_way = 50
        assert {pick(replicas, 0.0, Random(seed)) for seed in range(20)} == {1}

    @pytest.mark.parametrize(("replicas", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
    def test_half_of_the_fleet_is_left_when_all_are_slow(self, replicas, most):
        fleet = [Replica(Policies()) for _ in range(replicas)]
        for each in fleet:
            if can_spare(fleet, each):
                each.health.waits(0.0, 0.01, 9.0)
        assert sum(each.health.ejected for each in fleet) == most

    def test_gives_one_that_came_back_its_share_step_by_step(self):
        replicas = [Replica(Policies()) for _ in range(2)]
        for each in replicas:
            each.under_way = 4
        back = replicas[0].health
        back.unreachable(0.0)
        assert back.take_probe(1.0)
        back.probed(1.0, ready=True)
        replicas[0].under_way = 0  # a tenth of a share: as if it had ten times as much to do
        assert pick(replicas, 1.0, Random(0)) == 1
        assert pick(replicas, 6.0, Random(0)) == 0

    def zoned(self, policies=None):
        replicas = [Replica(policies or Policies(spill_at=3)) for _ in range(4)]
        replicas[2].near = replicas[3].near = False
        return replicas

    def picked(self, replicas):
        return {pick(replicas, 0.0, Random(seed)) for seed in range(40)}

    def test_asks_those_of_its_own_zone_while_they_are_not_crowded(self):
        replicas = self.zoned()
        replicas[0].under_way = replicas[1].under_way = 2
        assert self.picked(replicas) == {0, 1}
        replicas[0].under_way = 3
        assert self.picked(replicas) == {1}
        replicas[1].under_way = 3
        assert {2, 3} <= self.picked(replicas)

    def test_asks_other_zones_when_its_own_is_not_well_or_at_its_limits(self):
        replicas = self.zoned()
        for each in replicas[:2]:
            each.health.unreachable(0.0)
        assert self.picked(replicas) == {2, 3}
        replicas = self.zoned(Policies(limit=True, spill_at=1000))
        for each in replicas[:2]:
            each.under_way = each.limit.limit
        assert self.picked(replicas) == {2, 3}

    def test_asks_another_zone_for_a_second_answer_where_its_own_has_none_left(self):
        assert pick(self.zoned(), 0.0, Random(0), but=frozenset({0})) == 1
        assert pick(self.zoned(), 0.0, Random(0), but=frozenset({0, 1})) in {2, 3}

    def test_never_asks_one_that_is_gone(self):
        replicas = [Replica(Policies()) for _ in range(3)]
        replicas[0].gone = True
        replicas[1].health.unreachable(0.0)
        assert self.picked(replicas) == {2}
        replicas[2].gone = True
        assert self.picked(replicas) == {1}
        assert not can_spare(replicas, replicas[1])

    def test_says_so_when_all_are_at_their_limits(self):
        replicas = [Replica(Policies(limit=True)) for _ in range(2)]
        for each in replicas:
            each.under_way = each.limit.limit
        with pytest.raises(Full):
            pick(replicas, 0.0, Random(0))
        replicas[1].under_way -= 1
        assert pick(replicas, 0.0, Random(0)) == 1


def test_a_retry_waits_a_random_time_below_a_limit_that_doubles():
    random = Random(0)
    for retry, most in [(0, 0.002), (1, 0.004), (3, 0.016), (20, 0.1)]:
        waits = [backoff_s(retry, random) for _ in range(200)]
        assert 0.9 * most < max(waits) <= most
        assert min(waits) < 0.1 * most


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"extra_load": 1.5}, "extra_load is 1.5; it is a share"),
        ({"ramp_s": 0}, "ramp_s is 0; it is above 0 seconds"),
        ({"spill_at": 0}, "spill_at is 0; it is 1 or more"),
    ],
)
def test_policies_that_make_no_sense_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        Policies(**options)
