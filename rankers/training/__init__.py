"""Training: from a log to a ranker that is judged on requests it has not seen."""

from rankers.training.judging import score_requests
from rankers.training.loop import train
from rankers.training.options import Training, TrainingOptions

__all__ = ["Training", "TrainingOptions", "score_requests", "train"]
