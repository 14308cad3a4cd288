"""Rankers from the literature, a file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankers.ranker import Ranker

# name → "module:class". To add a ranker, write its file and add its line.
ZOO = {"dlrm": "rankers.zoo.dlrm:DLRM"}


def load_trained(name: str) -> Ranker:
    """Return a ranker of the zoo, trained on its synthetic log the first time.

    Args:
        name: A key of `ZOO`.
    """
    from rankers.cache import cache_folder
    from rankers.training import TrainingOptions, load_checkpoint, train_checkpoint

    options = TrainingOptions(ranker=name)
    folder = cache_folder() / "rankers" / f"{name}-{options.key()[:16]}"
    if not folder.is_dir():
        train_checkpoint(options, folder)
    return load_checkpoint(folder)
