"""The zoo: rankers to try things on, each trained on its synthetic log when first asked for.

A zoo module has ``build(**options) -> nn.Module`` and ``options_for(signature) -> dict``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from rankers.data.log import ClickLog
    from rankers.ranker import Ranker
    from rankers.training import Training, TrainingOptions

# Names and the modules that build them: data, so that names can be listed without importing torch.
ZOO = {"dlrm": "rankers.zoo.dlrm"}
ABOUT = {"dlrm": "Deep Learning Recommendation Model (Naumov et al. 2019): tables, dots, two MLPs"}


def load_trained(name: str) -> Ranker:
    """Return a zoo ranker, trained on its synthetic log: from the cache, or trained now.

    Raises:
        UserError: The zoo does not know the name.
    """
    from rankers.cache import cache_folder
    from rankers.checkpoint import load_checkpoint, save_checkpoint
    from rankers.data.source import SYNTHETIC_ROWS
    from rankers.data.synthetic import ClickModel
    from rankers.training import TrainingOptions

    model, options = ClickModel(), TrainingOptions()
    recipe = {
        "name": zoo_name(name),
        "rows": SYNTHETIC_ROWS,
        "log": asdict(model),
        "training": asdict(options),
        "code": code_key(name),
    }
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / "rankers" / f"{name}-{key}"
    if not folder.is_dir():
        print(  # noqa: T201 - said on standard error, once, as it takes a minute
            f"training {name} on {SYNTHETIC_ROWS:,} rows of synthetic clicks (kept in {folder})",
            file=sys.stderr,
        )
        ranker, module_options, training = train_zoo(name, model.draw(SYNTHETIC_ROWS), options)
        save_checkpoint(folder, ranker, module_options, training.to_json())
    return load_checkpoint(folder)


def train_zoo(
    name: str, log: ClickLog, options: TrainingOptions
) -> tuple[Ranker, dict[str, Any], Training]:
    """Train a zoo ranker on a log.

    Returns:
        The ranker, the options its module was built with, and what training came to.

    Raises:
        UserError: The zoo does not know the name, or the log is too small.
    """
    from rankers.ranker import Ranker
    from rankers.training import train

    zoo_module = importlib.import_module(ZOO[zoo_name(name)])
    module_options = zoo_module.options_for(log.signature)
    module, training = train(lambda: zoo_module.build(**module_options), log, options)
    ranker = Ranker(name, module, log.signature, training.evaluation)
    return ranker, module_options, training


def zoo_name(name: str) -> str:
    """Return ``name`` if the zoo knows it.

    Raises:
        UserError: It does not; the message names the nearest.
    """
    if name not in ZOO:
        raise UserError(f"unknown ranker {name!r}; {nearest(name, ZOO)}")
    return name


def code_key(name: str) -> str:
    """Return the SHA-256 of the code that decides what comes out of training a zoo ranker."""
    here = Path(__file__).parent
    files = [
        here / f"{ZOO[name].rpartition('.')[2]}.py",
        here.parent / "training.py",
        here.parent / "checkpoint.py",
        *(here.parent / "data" / each for each in ("criteo.py", "log.py", "synthetic.py")),
    ]
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()
