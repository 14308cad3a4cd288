from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from rankers.features import Feature, Signature
from rankers.requests import RankingRequest, RequestBatch, join_requests


@pytest.fixture(scope="session")
def criteo_sample():
    return _samples("criteo_sample.csv") / "criteo_sample.csv"


@pytest.fixture(scope="session")
def lambdarank():
    """Return the folder of LightGBM's learning-to-rank example."""
    return _samples("lambdarank.rank.train")


def _samples(needed):
    chosen = os.environ.get("RANKSERVE_SAMPLE_DATA")
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(chosen) if chosen else beside
    if not (folder / needed).is_file():
        pytest.skip("no sample data: set RANKSERVE_SAMPLE_DATA")
    return folder


@pytest.fixture(scope="session")
def signature() -> Signature:
    return Signature(
        (
            Feature("age", "float32", (), "user"),
            Feature("country", "int64", (), "user", 50),
            Feature("picture", "float32", (2, 3), "item"),
            Feature("brand", "int64", (), "item", 100),
            Feature("tags", "int64", (4,), "item", 10),
        )
    )


@pytest.fixture(scope="session")
def batch_of():
    """Return a function that makes requests of `signature` with the given numbers of candidates."""

    def make(counts: list[int], seed: int = 0) -> RequestBatch:
        generator = np.random.default_rng(seed)
        return join_requests(
            [
                RankingRequest(
                    user={
                        "age": generator.random(1, dtype=np.float32),
                        "country": generator.integers(0, 50, 1),
                    },
                    items={
                        "picture": generator.random((count, 2, 3), dtype=np.float32),
                        "brand": generator.integers(0, 100, count),
                        "tags": generator.integers(0, 10, (count, 4)),
                    },
                    labels=generator.integers(0, 2, count).astype(np.float32),
                )
                for count in counts
            ]
        )

    return make
