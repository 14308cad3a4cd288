"""What the stage left of a made-up ranker."""

from __future__ import annotations

import dataclasses

import pytest

from optimize.split_report.reading import SplitReport, Taken
from rankers.features import Feature, Signature

SIGNATURE = Signature(
    (
        Feature("history", "int64", (100,), side="user", cardinality=9),
        Feature("item", "int64", side="item", cardinality=9),
        Feature("price", "float32", side="item"),
    )
)


def taken(user, both, ms):
    sides = ("none", "user", "item", "both")
    return Taken(
        operators=dict(zip(sides, (0, 3, 1, 2), strict=True)),
        multiply_adds=dict(zip(sides, (0, user, 0, both), strict=True)),
        gathered_bytes=user // 2,
        modelled_ms_at=dict(zip((1, 50, 200, 500), ms, strict=True)),
        diagram=None,
    )


@pytest.fixture(scope="session")
def shop():
    """Return one whose user's part is computed once."""
    return SplitReport(
        ranker="shop",
        signature=SIGNATURE,
        served="key",
        rewritten=True,
        reason="6% is left",
        candidates=200,
        rewrites={"linear_layers": ["a layer", "a layer", "another"]},
        before=taken(8_000_000, 2_000_000, (0.1, 1.0, 4.0, 10.0)),
        after=taken(40_000, 2_000_000, (0.12, 0.5, 1.0, 2.0)),
    )


@pytest.fixture(scope="session")
def kept(shop):
    """Return one that stayed flat after a try."""
    return dataclasses.replace(shop, rewritten=False, reason="kept flat: rows mix", rewrites={})
