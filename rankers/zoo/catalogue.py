"""What the zoo holds, as data: names can be listed without importing torch."""

from __future__ import annotations

from dataclasses import dataclass

from rankers.errors import UserError, nearest


@dataclass(frozen=True, slots=True)
class Entry:
    """One ranker of the zoo.

    Its module has ``build``, the class of the ranker, ``options_for(signature) -> dict`` (what
    follows from the features) and ``SMALL``, the options of a size that trains in a minute on a
    CPU; the module's defaults are the published sizes. It may have ``TRAINING``, the fields of
    `rankers.training.TrainingOptions` that suit it better than the defaults.

    Attributes:
        module: Where it is, dotted.
        about: One line: its full name, its source, what is in it.
        log: The synthetic log it is trained on by default: a key of
            `rankers.data.source.SYNTHETIC_LOGS`.
        rows: How many rows of that log.
    """

    module: str
    about: str
    log: str = "clicks"
    rows: int = 400_000


ZOO = {
    "dlrm": Entry(
        "rankers.zoo.dlrm",
        "Deep Learning Recommendation Model (Naumov et al. 2019): tables, dots, two MLPs",
    ),
}


def entry_of(name: str) -> Entry:
    """Return the entry called ``name``.

    Raises:
        UserError: The zoo does not know it; the message names the nearest.
    """
    if name not in ZOO:
        raise UserError(f"unknown ranker {name!r}; {nearest(name, ZOO)}")
    return ZOO[name]
