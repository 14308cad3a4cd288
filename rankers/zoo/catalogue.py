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
    `rankers.training.TrainingOptions` that suit it better than the defaults, and
    ``options_from(files) -> dict``, what follows from the files of the log.

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
    "dcn_v2": Entry(
        "rankers.zoo.dcn_v2",
        "Deep & Cross Network V2 (Wang et al. 2021): full, low-rank or mixture cross layers, MLP",
        rows=200_000,
    ),
    "deepfm": Entry(
        "rankers.zoo.deepfm",
        "DeepFM (Guo et al. 2017): factorization machine and MLP over the same embeddings",
        rows=400_000,
    ),
    "wide_deep": Entry(
        "rankers.zoo.wide_deep",
        "Wide & Deep (Cheng et al. 2016): linear and crossed IDs beside an MLP",
        log="histories",
        rows=600_000,
    ),
    "two_tower": Entry(
        "rankers.zoo.two_tower",
        "Two towers (Huang et al. 2013): user vector · item vector, the items' ahead of time",
        log="histories",
        rows=600_000,
    ),
    "din": Entry(
        "rankers.zoo.din",
        "Deep Interest Network (Zhou et al. 2018): the history weighted for each candidate",
        log="histories",
        rows=100_000,
    ),
    "history_transformer": Entry(
        "rankers.zoo.history_transformer",
        "Transformer over the history, read by the candidate (SASRec 2018, BST 2019)",
        log="histories",
        rows=200_000,
    ),
    "cross_encoder": Entry(
        "rankers.zoo.cross_encoder",
        "Cross-encoder (Nogueira and Cho 2019): BERT over query and document (extra: text)",
        log="texts",
        rows=50_000,
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
