"""What a module's scores are worth on a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankers.quality import METRICS, Quality, quality

if TYPE_CHECKING:
    from torch import nn

    from rankers.data.log import RankingLog
    from rankers.requests import Array, RequestBatch

_SCORING_ROWS = 4096


def score_requests(module: nn.Module, batch: RequestBatch) -> Array:
    """Score every candidate of ``batch`` in order, float32 ``[ΣN]``, on the module's device."""
    import torch

    module.eval()
    device = next((each.device for each in module.parameters()), torch.device("cpu"))
    scores: list[Array] = []
    with torch.inference_mode():
        for chunk in batch.chunks(_SCORING_ROWS):
            inputs = {
                name: torch.from_numpy(np.ascontiguousarray(x)).to(device)
                for name, x in chunk.flat().items()
            }
            scores.append(module(**inputs).reshape(-1).float().cpu().numpy())
    return np.concatenate(scores)


def judge_module(module: nn.Module, log: RankingLog, metric: str) -> Quality:
    """Judge a module on a log; ``metric`` is found whatever its name."""
    return judge_scores(score_requests(module, log.requests), log, metric)


def judge_scores(scores: Array, log: RankingLog, metric: str) -> Quality:
    """Judge scores ``[ΣN]`` on a log."""
    requests = log.requests
    assert requests.labels is not None  # noqa: S101 - a log has labels
    more = () if metric in METRICS else (metric,)
    return quality(scores, requests.labels, requests.offsets, log.signature.score, more=more)


def best_and_chance(log: RankingLog, metric: str) -> tuple[Quality | None, Quality]:
    """Return the quality of a log's true scores, if they are known, and of equal scores."""
    equal = np.full(log.requests.rows, 0.5, dtype=np.float32)
    best = None if log.truth is None else judge_scores(log.truth, log, metric)
    return best, judge_scores(equal, log, metric)
