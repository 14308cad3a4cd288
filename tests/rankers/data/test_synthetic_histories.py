from __future__ import annotations

import numpy as np
import pytest

from rankers.data.source import read_log
from rankers.data.synthetic_histories import SIGNATURE, HistoryModel
from rankers.errors import UserError
from rankers.quality import quality


@pytest.fixture(scope="module")
def log():
    return HistoryModel().draw(60_000)


def test_requests_fit_their_signature(log):
    log.requests.check(SIGNATURE)
    for name in ("history", "history_category"):
        column = log.requests.user[name]
        assert ((column[:, :-1] != 0) | (column[:, 1:] == 0)).all()  # padding comes last
    assert (log.requests.user["history"][:, 0] == 0).any()  # some users are new


def test_a_request_has_each_item_once(log):
    for request in list(log.requests)[:100]:
        assert len(np.unique(request.items["item"])) == request.candidates


def test_places_tell_nothing(log):
    first = [each.labels[: each.candidates // 2].mean() for each in log.requests]
    last = [each.labels[each.candidates // 2 :].mean() for each in log.requests]
    assert abs(np.mean(first) - np.mean(last)) < 0.02


def test_the_same_seed_draws_the_same_and_a_longer_log_begins_with_it(log):
    again = HistoryModel().draw(60_000)
    longer = HistoryModel().draw(90_000)
    for name, column in log.requests.items.items():
        np.testing.assert_array_equal(again.requests.items[name], column)
        np.testing.assert_array_equal(longer.requests.items[name][: len(column)], column)
    assert HistoryModel(seed=1).draw(1000).requests.items["item"][:50].tolist() != (
        log.requests.items["item"][:50].tolist()
    )


def test_clicks_follow_the_truth(log):
    assert log.requests.labels.mean() == pytest.approx(0.2, abs=0.02)
    assert log.truth.mean() == pytest.approx(log.requests.labels.mean(), abs=0.005)


def test_the_match_with_the_history_is_worth_finding(log):
    def auc(model):
        drawn = model.draw(40_000)
        requests = drawn.requests
        return quality(drawn.truth, requests.labels, requests.offsets, "probability").auc

    assert auc(HistoryModel()) > auc(HistoryModel(match=1e-9)) + 0.03


def test_it_has_a_name_on_the_command_line():
    assert read_log("synthetic:histories", rows=500).signature == SIGNATURE
    with pytest.raises(UserError, match="did you mean 'histories'"):
        read_log("synthetic:historys", rows=500)
