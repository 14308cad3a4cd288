"""Graded documents: a neural ranker beside LightGBM's, on LightGBM's own example."""

from __future__ import annotations

import numpy as np
import pytest

from rankers.data.letor import read_letor
from rankers.quality import quality
from rankers.training import TrainingOptions, score_requests
from rankers.zoo import train_zoo

FEATURES = 300


def lightgbm_scores(train, test):
    """Train with the parameters of LightGBM's examples/lambdarank/train.conf."""
    import lightgbm

    parameters = {
        "objective": "lambdarank", "num_leaves": 31, "learning_rate": 0.1, "bagging_freq": 1,
        "bagging_fraction": 0.9, "min_data_in_leaf": 50, "min_sum_hessian_in_leaf": 5.0,
        "num_threads": 1, "verbose": -1, "seed": 0,
    }  # fmt: skip
    data = lightgbm.Dataset(
        train.requests.items["features"], train.requests.labels, group=train.requests.candidates
    )
    booster = lightgbm.train(parameters, data, num_boost_round=100)
    return booster.predict(test.requests.items["features"]).astype(np.float32)


def test_a_pairwise_loss_ranks_graded_documents_as_well_as_lightgbms_example(lambdarank):
    train = read_letor(lambdarank / "lambdarank.rank.train", features=FEATURES)
    test = read_letor(lambdarank / "lambdarank.rank.test", features=FEATURES)
    options = TrainingOptions(
        loss="pairwise", metric="ndcg_at_10", epochs=20, batch_rows=256, weight_decay=0.01,
        held_out=0.05,
    )  # fmt: skip
    small = {"deep": [64, 32], "cross_layers": 1}
    ranker, _, _ = train_zoo("dcn_v2", train, options, overrides=small)
    judged = (test.requests.labels, test.requests.offsets, "relevance")
    ours = quality(score_requests(ranker.module, test.requests), *judged).ndcg_at_10
    theirs = quality(lightgbm_scores(train, test), *judged).ndcg_at_10
    equal = quality(np.zeros(test.requests.rows, dtype=np.float32), *judged).ndcg_at_10
    # 50 queries tell no more than a few hundredths apart.
    assert theirs > equal + 0.1
    assert ours == pytest.approx(theirs, abs=0.05) or ours > theirs
