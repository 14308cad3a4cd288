"""Evaluation: what a ranker is worth on requests, on slices of them, and beside another ranker."""

from rankers.evaluation.judged import Scored, SliceQuality, judge_slice, score_evaluation
from rankers.evaluation.slices import Slice, cut_slice, gate_slices, usual_slices

__all__ = [
    "Scored",
    "Slice",
    "SliceQuality",
    "cut_slice",
    "gate_slices",
    "judge_slice",
    "score_evaluation",
    "usual_slices",
]
