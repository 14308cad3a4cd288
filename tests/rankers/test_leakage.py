"""Requests that are learnt from and judge as well are found, in whatever order they come."""

from dataclasses import replace

import numpy as np
from example_rankers import requests

from rankers.leakage import requests_also_in
from rankers.requests import RequestBatch, join_requests


def test_requests_of_others_are_not_found():
    assert requests_also_in(requests(20, seed=1), requests(20, seed=2)).tolist() == []


def test_those_that_are_also_elsewhere_are_found_by_their_places():
    theirs = requests(20, seed=2)
    ours = join_requests([*requests(5, seed=1), theirs[7], *requests(2, seed=3), theirs[0]])
    assert requests_also_in(replace(ours, labels=None), theirs).tolist() == [5, 8]


def test_the_order_of_candidates_hides_nothing():
    theirs = requests(10, seed=2)
    backwards = [
        replace(each, items={name: column[::-1] for name, column in each.items.items()})
        for each in theirs
    ]
    assert requests_also_in(join_requests(backwards), theirs).tolist() == list(range(10))


def test_another_user_or_one_candidate_less_is_another_request():
    theirs = join_requests([each for each in requests(10, seed=2) if each.candidates > 1])
    others = replace(theirs, user=theirs.user | {"country": (theirs.user["country"] + 1) % 20})
    shorter = [
        replace(each, items={name: x[1:] for name, x in each.items.items()}, labels=None)
        for each in theirs
    ]
    assert len(requests_also_in(others, theirs)) == 0
    assert len(requests_also_in(join_requests(shorter), theirs)) == 0


def test_no_requests_are_in_none():
    none = RequestBatch({}, {"price": np.empty((0, 2), np.float32)}, np.zeros(1, np.int64))
    assert requests_also_in(none, none).tolist() == []
