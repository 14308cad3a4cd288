"""The sample of training requests that goes with a ranker."""

import numpy as np
from example_rankers import requests

from rankers.leaks import leaked_requests
from rankers.requests import join_requests
from rankers.training.calibration import REQUESTS, ROWS_OF_A_REQUEST, calibration_sample

HELD_OUT = requests(10, seed=9)


def long_requests(count, candidates, seed=0):
    random = np.random.default_rng(seed)
    batch = requests(count, seed=seed)
    rows = count * candidates
    return type(batch)(
        user=batch.user,
        items={
            "item": random.integers(0, 100, rows),
            "price": random.standard_normal(rows).astype(np.float32),
        },
        offsets=np.arange(count + 1) * candidates,
        labels=np.zeros(rows, np.float32),
    )


def test_each_request_counts_alike_however_many_candidates_it_has():
    learned = join_requests([*long_requests(10, 700), *long_requests(10, 3, seed=1)])
    sample = calibration_sample(learned, HELD_OUT, seed=0)
    assert sample.candidates.tolist() == [ROWS_OF_A_REQUEST] * 10 + [3] * 10


def test_it_is_a_seeded_draw_from_what_was_trained_on():
    learned = long_requests(2 * REQUESTS + 10, 4)
    first, again, other = (calibration_sample(learned, HELD_OUT, seed=each) for each in (0, 0, 1))
    assert len(first) == REQUESTS
    assert len(leaked_requests(first, learned)) == REQUESTS
    np.testing.assert_array_equal(first.items["price"], again.items["price"])
    assert not np.array_equal(first.items["price"], other.items["price"])


def test_requests_that_were_held_out_too_are_left_out():
    learned = requests(30, seed=1)
    held_out = learned.select([3, 17])
    assert len(calibration_sample(learned, held_out, seed=0)) == 28
    assert calibration_sample(held_out, held_out, seed=0) is None


def test_a_request_that_thinning_makes_equal_to_one_held_out_is_left_out():
    learned = long_requests(1, 3 * ROWS_OF_A_REQUEST)
    (thinned,) = calibration_sample(learned, HELD_OUT, seed=0)
    assert calibration_sample(learned, join_requests([thinned]), seed=0) is None
