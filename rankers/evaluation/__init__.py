"""Evaluation: what a ranker is worth on requests, on slices of them, and beside another ranker."""

from rankers.evaluation.judged import Scored, SliceQuality, judge_slice, score_evaluation
from rankers.evaluation.slices import Slice, cut_slice, gate_slices, usual_slices
from rankers.leaks import check_held_out, leaked_requests, request_hashes

__all__ = [
    "Scored",
    "Slice",
    "SliceQuality",
    "check_held_out",
    "cut_slice",
    "gate_slices",
    "judge_slice",
    "leaked_requests",
    "request_hashes",
    "score_evaluation",
    "usual_slices",
]
