"""The zoo at its published sizes with random weights: what a ranker costs depends on no weight.

Tables have 50,000 rows each, so that together they are many times a GPU's cache.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rankers.features import Feature, Signature
from rankers.zoo.catalogue import entry_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import nn

    from rankers.requests import Columns

_EVENTS, _QUERY, _DOCUMENT = 100, 16, 64


def make_ranker(name: str, *, quick: bool = False) -> tuple[nn.Module, Signature]:
    """Return a ranker of the zoo, and its features.

    Args:
        name: Of the zoo.
        quick: Small tables and layers, for a smoke test.

    Raises:
        UserError: The zoo does not know the name.
    """
    import torch

    zoo = importlib.import_module(entry_of(name).module)
    features = _features(entry_of(name).log, 100 if quick else 50_000)
    signature = Signature(features)
    options: dict[str, Any] = zoo.options_for(signature) | (zoo.SMALL if quick else {})
    torch.manual_seed(0)
    module: nn.Module = zoo.build(**options).eval()
    _spread(module, signature)
    return module, signature


def double_scores(
    module: nn.Module, requests: Sequence[Columns]
) -> list[np.ndarray[Any, np.dtype[Any]]]:
    """Score flat columns in float64 on the CPU: what every path is compared with, ``[rows]``."""
    import copy

    import torch

    exact = copy.deepcopy(module).double()  # once: tables are large
    usual = torch.get_default_dtype()
    # What a module makes of plain numbers, a mask say, is to be float64 too: attention of torch
    # 2.13 on the CPU takes a float32 mask among float64 for something else, and says nothing.
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            return [exact(**_doubles(each)).reshape(-1).numpy() for each in requests]
    finally:
        torch.set_default_dtype(usual)


def _doubles(columns: Columns) -> dict[str, Any]:
    import torch

    given = {name: torch.from_numpy(x) for name, x in columns.items()}
    return {name: x.double() if x.is_floating_point() else x for name, x in given.items()}


def _features(log: str, rows: int) -> tuple[Feature, ...]:
    if log == "texts":
        tokens = 30_522 if rows > 1000 else 1000
        return (
            Feature("query", "int64", (_QUERY,), "user", tokens, padding=0),
            Feature("document", "int64", (_DOCUMENT,), "item", tokens, padding=0),
        )
    if log == "histories":
        return (
            Feature("history_item", "int64", (_EVENTS,), "user", rows, padding=0),
            *(Feature(f"user_{n}", "int64", (), "user", rows) for n in range(8)),
            Feature("item", "int64", (), "item", rows),
            *(Feature(f"item_{n}", "int64", (), "item", rows) for n in range(8)),
        )
    return (
        Feature("dense", "float32", (13,), "user"),
        *(Feature(f"user_{n}", "int64", (), "user", rows) for n in range(16)),
        *(Feature(f"item_{n}", "int64", (), "item", rows) for n in range(10)),
    )


def _spread(module: nn.Module, signature: Signature) -> None:
    """Let logits have a standard deviation of 1: scores that are all alike hide what is wrong."""
    import torch
    from torch.nn import Linear

    from optimize.samples import sample_requests

    *_, last = (x for x in module.modules() if isinstance(x, Linear))
    if last.out_features != 1:  # two towers: their dots are spread already
        return
    flat = sample_requests(signature, [64]).flat()
    columns = {name: torch.from_numpy(x) for name, x in flat.items()}
    with torch.no_grad():
        last.weight.div_(torch.logit(module(**columns)).std())
        last.bias.sub_(torch.logit(module(**columns)).mean())
