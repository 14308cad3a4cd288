"""Calibration requests that are evaluation requests are found by what they hold, and named."""

from __future__ import annotations

import numpy as np
import pytest
from example_rankers import requests

from rankers.errors import UserError
from rankers.evaluation import check_held_out, leaked_requests, request_hashes
from rankers.requests import RequestBatch, join_requests


@pytest.fixture(scope="module")
def evaluation():
    return requests(30, seed=0)


@pytest.fixture(scope="module")
def calibration():
    return requests(20, seed=1)


def test_requests_of_their_own_are_let_through(calibration, evaluation):
    check_held_out(calibration, evaluation)
    assert leaked_requests(calibration, evaluation).shape == (0, 2)
    check_held_out(calibration.slice(0, 0), evaluation)


def test_those_that_leaked_are_refused_by_their_numbers(calibration, evaluation):
    both = join_requests([*calibration, evaluation[7], *calibration, evaluation[3]])
    with pytest.raises(UserError) as caught:
        check_held_out(both, evaluation)
    assert str(caught.value).startswith(
        "2 of 42 calibration requests are evaluation requests too: 20 (evaluation request 7), "
        "41 (evaluation request 3); calibrate on"
    )


def test_a_message_of_many_stays_a_line(evaluation):
    with pytest.raises(UserError, match=r"30 of 30 .* 4 \(evaluation request 4\) and 25 more;"):
        check_held_out(evaluation, evaluation)


def test_a_copy_without_labels_and_in_another_order_is_the_same(evaluation):
    random = np.random.default_rng(0)
    shuffled = []
    for each in evaluation.slice(4, 6):
        order = random.permutation(each.candidates)
        items = {name: each.items[name][order] for name in reversed(each.items)}
        shuffled.append(type(each)(each.user, items))
    found = leaked_requests(join_requests(shuffled), evaluation)
    assert found.tolist() == [[0, 4], [1, 5]]


@pytest.mark.parametrize("change", ["one item", "one fewer", "the user"])
def test_another_content_is_another_request(evaluation, change):
    number = int(np.argmax(evaluation.candidates > 5))
    one = evaluation.select([number])
    items = {name: x.copy() for name, x in one.items.items()}
    user = {name: x.copy() for name, x in one.user.items()}
    offsets = one.offsets
    if change == "one item":
        items["item"][0] = (items["item"][0] + 1) % 100
    elif change == "one fewer":
        items = {name: x[:-1] for name, x in items.items()}
        offsets = np.array([0, one.rows - 1])
    else:
        user["country"][0] = (user["country"][0] + 1) % 20
    assert not len(leaked_requests(RequestBatch(user, items, offsets), evaluation))


def test_ids_of_one_feature_are_not_those_of_another():
    ids, offsets = np.array([3, 4]), np.array([0, 1, 2])
    here = RequestBatch({"user": ids}, {"item": ids}, offsets)
    there = RequestBatch({"user": ids}, {"brand": ids}, offsets)
    assert not set(request_hashes(here)) & set(request_hashes(there))
