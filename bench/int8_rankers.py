"""Rankers of given sizes to measure int8 on: ``bench/int8_rankers.py:NAME``.

Untrained, so they are measured with the recipes ``fp32-untrained.toml`` and ``int8-untrained.toml``
beside this file: nothing can be lost of a ranking that was never learnt. What int8 costs trained
rankers is judged on those of the zoo. ``cross_encoder`` has MiniLM-L6's sizes, and reads 64 tokens:
16 of the query, 45 of the document and 3 special ones. ``dlrm``, ``dcn_v2``, ``deepfm`` and
``wide_deep`` are the zoo's at the sizes that were published, over 13 numbers of the user and 26
fields as Criteo has, whose tables have 5,000 rows: how long a layer takes follows from its width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.user_once_rankers import draw_requests, untrained
from rankers.features import Feature, Signature

if TYPE_CHECKING:
    from rankers.ranker import Ranker

_VOCABULARY = 30_522
_CLS, _SEP = 101, 102  # of BERT's vocabulary
_CRITEO = (
    Feature("counts", "float32", (13,), side="user"),
    *(Feature(f"user_{n}", "int64", side="user", cardinality=5000) for n in range(16)),
    *(Feature(f"item_{n}", "int64", cardinality=5000) for n in range(10)),
)


def cross_encoder() -> Ranker:
    """Return a cross-encoder of the zoo in its published size."""
    from rankers.zoo.cross_encoder import CrossEncoder, options_for

    features = (
        Feature("query", "int64", (16,), side="user", cardinality=_VOCABULARY, padding=0),
        Feature("document", "int64", (45,), cardinality=_VOCABULARY, padding=0),
    )
    torch.manual_seed(0)
    module = CrossEncoder(**options_for(Signature(features)), cls=_CLS, sep=_SEP, dropout=0.0)
    return _calibrated(
        untrained("cross_encoder", module, features, requests=4, candidates=16), candidates=16
    )


def dlrm() -> Ranker:
    """Return a DLRM with MLPerf's layers: 512-256-128 below, 1024-1024-512-256-1 above."""
    from rankers.zoo.dlrm import DLRM, options_for

    torch.manual_seed(0)
    return _of_criteo("dlrm", DLRM(**options_for(Signature(_CRITEO))))


def dcn_v2() -> Ranker:
    """Return a DCN-v2 with two full cross layers, then 768-768."""
    from rankers.zoo.dcn_v2 import DCNv2, options_for

    torch.manual_seed(0)
    return _of_criteo("dcn_v2", DCNv2(**options_for(Signature(_CRITEO))))


def deepfm() -> Ranker:
    """Return a DeepFM with layers of 400-400-400."""
    from rankers.zoo.deepfm import DeepFM, options_for

    torch.manual_seed(0)
    return _of_criteo("deepfm", DeepFM(**options_for(Signature(_CRITEO))))


def wide_deep() -> Ranker:
    """Return a Wide & Deep with layers of 1024-512-256."""
    from rankers.zoo.wide_deep import WideDeep, options_for

    torch.manual_seed(0)
    return _of_criteo("wide_deep", WideDeep(**options_for(Signature(_CRITEO))))


def _of_criteo(name: str, module: torch.nn.Module) -> Ranker:
    return _calibrated(untrained(name, module, _CRITEO), candidates=50)


def _calibrated(ranker: Ranker, *, candidates: int) -> Ranker:
    """Give a ranker requests to learn ranges from, drawn like its own, and none of them."""
    random = np.random.default_rng(1)
    drawn = draw_requests(ranker.signature, random, requests=8, candidates=candidates)
    return replace(ranker, calibration=drawn)
