"""The zoo: rankers to try things on, each trained on its synthetic log when first asked for."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError, nearest
from rankers.zoo.catalogue import ZOO, Entry, entry_of

if TYPE_CHECKING:
    from rankers.data.log import RankingLog
    from rankers.data.shards import ShardedLog
    from rankers.ranker import Ranker
    from rankers.training import Training, TrainingOptions

__all__ = [
    "ZOO",
    "Entry",
    "code_key",
    "entry_of",
    "load_trained",
    "options_of",
    "train_zoo",
    "training_options",
]


def load_trained(name: str) -> Ranker:
    """Return a zoo ranker, trained on its synthetic log: from the cache, or trained now.

    Raises:
        UserError: The zoo does not know the name.
    """
    from rankers.cache import cache_folder
    from rankers.checkpoint import load_checkpoint, save_checkpoint
    from rankers.data.source import SYNTHETIC, read_log

    entry, options = entry_of(name), training_options(name)
    recipe = {"name": name, "rows": entry.rows, "log": entry.log, "code": code_key(name)}
    recipe["training"] = asdict(options)
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / "rankers" / f"{name}-{key}"
    if not folder.is_dir():
        print(  # noqa: T201 - said on standard error, once, as it takes a minute
            f"training {name} on {entry.rows:,} rows of synthetic {entry.log} (kept in {folder})",
            file=sys.stderr,
        )
        log = read_log(f"{SYNTHETIC}:{entry.log}", rows=entry.rows)
        ranker, module_options, training = train_zoo(name, log, options)
        save_checkpoint(folder, ranker, module_options, training.to_json())
    return load_checkpoint(folder)


def train_zoo(
    name: str,
    log: RankingLog | ShardedLog,
    options: TrainingOptions,
    *,
    size: str = "small",
    overrides: dict[str, Any] | None = None,
    resume: Path | None = None,
    save_every_s: float = 30.0,
) -> tuple[Ranker, dict[str, Any], Training]:
    """Train a zoo ranker on a log.

    Args:
        name: In the zoo.
        log: Labelled requests with the features that the ranker reads, in memory or in shards.
        options: How to train.
        size: ``small``, or ``published`` for the sizes of its source.
        overrides: Options of the module that are set in place of the size's.
        resume: See `rankers.training.train`.
        save_every_s: See there.

    Returns:
        The ranker, the options its module was built with, and what training came to.

    Raises:
        UserError: The zoo does not know the name, the log is too small or lacks features, or an
            option is unknown.
    """
    from rankers.ranker import Ranker
    from rankers.training import train

    module_options = options_of(name, log, size=size, overrides=overrides)
    zoo_module = importlib.import_module(entry_of(name).module)
    module, training = train(
        lambda: zoo_module.build(**module_options),
        log,
        options,
        resume=resume,
        save_every_s=save_every_s,
    )
    ranker = Ranker(
        name,
        module,
        log.signature,
        training.evaluation,
        seen=training.seen,
        files=log.files,
        calibration=training.calibration,
    )
    return ranker, module_options, training


def options_of(
    name: str,
    log: RankingLog | ShardedLog,
    *,
    size: str = "small",
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments to build a zoo module with, JSON-ready.

    Raises:
        UserError: The log lacks what the ranker reads, or the size is unknown.
    """
    zoo_module = importlib.import_module(entry_of(name).module)
    if size not in {"small", "published"}:
        raise UserError(f"unknown size {size!r}; it is 'small' or 'published'")
    sized: dict[str, Any] = zoo_module.SMALL if size == "small" else {}
    options: dict[str, Any] = zoo_module.options_for(log.signature)
    if hasattr(zoo_module, "options_from"):
        options |= zoo_module.options_from(log.files)
    known = list(inspect.signature(zoo_module.build).parameters)
    for each in overrides or {}:
        if each not in known:
            raise UserError(f"ranker {name!r} has no option {each!r}; {nearest(each, known)}")
    return options | sized | (overrides or {})


def training_options(name: str, **changes: Any) -> TrainingOptions:
    """Return the options that suit a zoo ranker, with changes."""
    from rankers.training import TrainingOptions

    zoo_module = importlib.import_module(entry_of(name).module)
    return TrainingOptions(**(getattr(zoo_module, "TRAINING", {}) | changes))


def code_key(name: str) -> str:
    """Return the SHA-256 of the code that decides what comes out of training a zoo ranker."""
    here = Path(__file__).parent
    files = [
        here / f"{entry_of(name).module.rpartition('.')[2]}.py",
        here / "layers.py",
        here.parent / "checkpoint.py",
        here.parent / "leaks.py",
        here.parent / "seen.py",
        here.parent / "text.py",
        *sorted((here.parent / "training").glob("*.py")),
        *sorted((here.parent / "data").glob("*.py")),
    ]
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()
