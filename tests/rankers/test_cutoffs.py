from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from rankers.cutoffs import Ties, mrr_at, ndcg_at, recall_at

# A request: (score, label) of each candidate, from few values so that most scores tie.
REQUESTS = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


def columns(requests):
    scores = np.array([score for each in requests for score, _ in each], dtype=np.float32)
    labels = np.array([label for each in requests for _, label in each], dtype=np.float32)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in requests])])
    return scores, labels, offsets


def over_all_orders(request, k):
    """Return MRR@k, recall@k and DCG@k, each averaged over every order that scores allow."""
    found = []
    for order in permutations(request):
        scores = [score for score, _ in order]
        if scores != sorted(scores, reverse=True):
            continue
        labels = [label for _, label in order]
        first = next((place for place, label in enumerate(labels[:k], 1) if label), None)
        relevant = sum(label > 0 for label in labels)
        found.append(
            (
                1 / first if first else 0.0,
                sum(label > 0 for label in labels[:k]) / relevant,
                sum(label / np.log2(place + 2) for place, label in enumerate(labels[:k])),
            )
        )
    return np.mean(found, axis=0)


@settings(max_examples=60, deadline=None)
@given(REQUESTS, st.integers(1, 7))
def test_metrics_are_the_mean_over_every_order_of_tied_candidates(requests, k):
    scores, labels, offsets = columns(requests)
    ranked, ideal = Ties.of(scores, labels, offsets), Ties.of(labels, labels, offsets)
    ndcg, mrr, recall = ndcg_at(k, ranked, ideal), mrr_at(k, ranked), recall_at(k, ranked)
    for place, request in enumerate(requests):
        if not any(label for _, label in request):
            assert np.isnan([ndcg[place], mrr[place], recall[place]]).all()
            continue
        expected = over_all_orders(request, k)
        best = over_all_orders([(label, label) for _, label in request], k)[2]
        assert (mrr[place], recall[place]) == pytest.approx(expected[:2], abs=1e-12)
        assert ndcg[place] == pytest.approx(expected[2] / best, abs=1e-12)


@pytest.mark.parametrize("k", [1, 5, 10, 1000])
def test_ndcg_is_that_of_scikit_learn_at_any_k(k):
    random = np.random.default_rng(k)
    requests = [
        list(zip(random.integers(0, 5, count), random.integers(0, 4, count), strict=True))
        for count in (2, 9, 30, 200)
    ]
    scores, labels, offsets = columns(requests)
    labels[offsets[:-1]] = 1
    found = ndcg_at(k, Ties.of(scores, labels, offsets), Ties.of(labels, labels, offsets))
    for place, (first, last) in enumerate(pairwise(offsets)):
        expected = ndcg_score([labels[first:last]], [scores[first:last]], k=k)
        assert found[place] == pytest.approx(expected, abs=1e-9)


def test_equal_scores_are_worth_what_a_random_order_is():
    # 1 relevant of 4, at each place with probability 1/4.
    ties = Ties.of(np.zeros(4), np.array([0, 0, 1, 0]), np.array([0, 4]))
    assert mrr_at(2, ties)[0] == pytest.approx((1 + 1 / 2) / 4)
    assert recall_at(3, ties)[0] == pytest.approx(3 / 4)


def test_a_long_run_of_ties_is_exact():
    labels = np.zeros(500)
    labels[:250] = 1
    ties = Ties.of(np.zeros(500), labels, np.array([0, 500]))
    chance, expected = 1.0, 0.0
    for place in range(500):  # the first relevant one is at this place
        here = 250 / (500 - place)
        expected += chance * min(here, 1.0) / (place + 1)
        chance *= 1 - min(here, 1.0)
    assert mrr_at(500, ties)[0] == pytest.approx(expected, rel=1e-12)
