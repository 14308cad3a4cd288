"""The champion keeps its place unless a challenger is faster beyond doubt, at p99 first."""

import numpy as np

from bench.choice import choose

ROUNDS, COUNT = 24, 50


def latencies(usual_ms, tail_ms, *, seed):
    """Return rounds of latencies in seconds, of which one in 20 is of the tail."""
    random = np.random.default_rng(seed)
    slow = random.random((ROUNDS, COUNT)) < 0.05
    noise = random.lognormal(0, 0.05, (ROUNDS, COUNT))
    return list(np.where(slow, tail_ms, usual_ms) * noise / 1e3)


def kept(**targets):
    rounds = [latencies(*each, seed=place) for place, each in enumerate(targets.values())]
    return choose(rounds, list(targets))


def test_a_faster_tail_takes_the_place_even_with_a_slower_median():
    assert kept(simple=(1.0, 9.0), other=(1.2, 3.0)).kept == "other"


def test_a_faster_median_does_not_outweigh_a_slower_tail():
    assert kept(simple=(1.2, 3.0), other=(1.0, 9.0)).kept == "simple"


def test_the_median_decides_where_the_tails_are_alike():
    assert kept(simple=(1.2, 5.0), other=(1.0, 5.0)).kept == "other"


def test_what_cannot_be_told_apart_keeps_the_simplest():
    choice = kept(simple=(1.0, 5.0), other=(1.0, 5.0), third=(1.0, 5.0))
    assert choice.kept == "simple"
    assert [(each.challenger, each.champion, each.won) for each in choice.duels] == [
        ("other", "simple", False),
        ("third", "simple", False),
    ]


def test_a_certain_difference_of_little_worth_keeps_the_simplest():
    choice = kept(simple=(1.03, 5.15), other=(1.0, 5.0))
    assert {each.verdict for each in choice.duels[0].ratios if each.quantile == 0.5} == {"faster"}
    assert choice.kept == "simple"


def test_each_challenger_meets_the_champion_of_its_turn():
    choice = kept(simple=(3.0, 9.0), better=(2.0, 6.0), worse=(2.5, 8.0), best=(1.0, 3.0))
    assert choice.kept == "best"
    assert [(each.challenger, each.champion, each.won) for each in choice.duels] == [
        ("better", "simple", True),
        ("worse", "better", False),
        ("best", "better", True),
    ]


def test_too_few_requests_for_a_tail_leave_the_decision_to_the_median():
    rounds = [[each[:10] for each in latencies(usual, 9.0, seed=1)] for usual in (2.0, 1.0)]
    choice = choose(rounds, ["simple", "other"])
    assert {each.quantile for each in choice.duels[0].ratios} == {0.5}
    assert choice.kept == "other"


def test_one_target_is_kept_without_a_duel():
    choice = kept(only=(1.0, 5.0))
    assert (choice.kept, choice.duels) == ("only", ())
