"""Rankers of given sizes to measure int8 on: ``bench/int8_rankers.py:NAME``.

Untrained, so they are measured with the recipes ``fp32-untrained.toml`` and ``int8-untrained.toml``
beside this file: nothing can be lost of a ranking that was never learnt. What int8 costs trained
rankers is judged on those of the zoo. ``cross_encoder`` has MiniLM-L6's sizes, and reads 64 tokens:
16 of the query, 45 of the document and 3 special ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bench.user_once_rankers import untrained
from rankers.features import Feature, Signature

if TYPE_CHECKING:
    from rankers.ranker import Ranker

_VOCABULARY = 30_522
_CLS, _SEP = 101, 102  # of BERT's vocabulary


def cross_encoder() -> Ranker:
    """Return a cross-encoder of the zoo in its published size."""
    from rankers.zoo.cross_encoder import CrossEncoder, options_for

    features = (
        Feature("query", "int64", (16,), side="user", cardinality=_VOCABULARY, padding=0),
        Feature("document", "int64", (45,), cardinality=_VOCABULARY, padding=0),
    )
    torch.manual_seed(0)
    module = CrossEncoder(**options_for(Signature(features)), cls=_CLS, sep=_SEP, dropout=0.0)
    return untrained("cross_encoder", module, features, requests=4, candidates=16)
