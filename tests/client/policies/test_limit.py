"""The limit before servers of known service times, three times overloaded, in simulated time."""

import sys
from pathlib import Path

import pytest

from client.policies.limit import GradientLimit

sys.path.insert(0, str(Path(__file__).parent))
from simulated_server import goodput

SERVERS = {
    "two_instances": (100, {"instances": 2, "seconds_of": lambda n, r: 0.02, "deadline_s": 0.2}),
    "a_tight_deadline": (100, {"instances": 2, "seconds_of": lambda n, r: 0.02, "deadline_s": 0.1}),
    "many_instances": (800, {"instances": 16, "seconds_of": lambda n, r: 0.02, "deadline_s": 0.2}),
    "exponential_times": (
        100,
        {"instances": 2, "seconds_of": lambda n, r: r.expovariate(50), "deadline_s": 0.3},
    ),
    "few_large_requests": (
        100,
        {
            "instances": 2,
            "seconds_of": lambda n, r: 0.1 if r.random() < 0.1 else 0.01 / 0.9,
            "deadline_s": 0.5,
        },
    ),
    "batches": (
        2 * 16 / 0.0112,
        {
            "instances": 2,
            "seconds_of": lambda n, r: 0.008 + 0.0002 * n,
            "deadline_s": 0.2,
            "most_in_batch": 16,
        },
    ),
}


@pytest.mark.parametrize(("capacity", "server"), SERVERS.values(), ids=SERVERS)
def test_most_of_the_capacity_goes_into_answers_in_time_and_without_a_limit_little(
    capacity, server
):
    load_s = 4000 / capacity
    load = {"rate": 3 * capacity, "load_s": load_s}
    assert goodput(GradientLimit(), **server, **load) > 0.85 * capacity
    assert goodput(None, **server, **load) < 0.6 * capacity


def test_a_load_that_the_server_bears_is_not_refused():
    server = SERVERS["two_instances"][1]
    without = goodput(None, **server, rate=50, load_s=40)
    assert goodput(GradientLimit(), **server, rate=50, load_s=40) == without


def test_a_model_that_became_slower_for_good_is_used_as_much_as_it_can_be():
    limit, slow = GradientLimit(), SERVERS["two_instances"][1] | {"deadline_s": 1.0}
    goodput(limit, **slow, rate=300, load_s=20)
    slow["seconds_of"] = lambda n, r: 0.06
    assert goodput(limit, **slow, rate=100, load_s=60) > 0.85 * 2 / 0.06
