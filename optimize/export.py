"""A ranker's module traced into a torch.export program, over any number of rows."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from rankers.ranker import Ranker
    from rankers.requests import Columns

# Rows of the sample that is traced: a number no shape in a ranker is likely to have by itself.
SAMPLE_ROWS = 11
# Where the ranker's module sits in the traced one: the prefix of its parameters' names.
ROOT = "ranker"


def export_ranker(ranker: Ranker, *, any_rows: bool = True) -> ExportedProgram:
    """Trace the module over columns in the signature's order.

    Args:
        ranker: Its first evaluation rows are the sample.
        any_rows: Whether the program is to take any number of rows from 1; else it takes
            `SAMPLE_ROWS` only, which is of use to look into a module that cannot do better.

    Returns:
        A program from columns by position to scores, float32 ``[rows]``.

    Raises:
        UserError: The module cannot be exported; the message says where, why and what to do.
    """
    import torch
    from torch.export import Dim

    from optimize.export_errors import explain_export_error
    from optimize.unpack import unpack_columns

    names = tuple(feature.name for feature in ranker.signature.features)
    module = ranker.module.cpu().eval()

    class Positional(torch.nn.Module):
        """Takes columns by position, so that every artifact is called alike."""

        def __init__(self) -> None:
            super().__init__()
            self.ranker = module

        def forward(self, *columns: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.ranker(**dict(zip(names, columns, strict=True)))
            return scores.reshape(-1).float()

    columns = first_rows(ranker, SAMPLE_ROWS)
    sample = tuple(torch.from_numpy(np.ascontiguousarray(columns[name])) for name in names)
    dimension = Dim("rows", min=1)
    shapes = (tuple({0: dimension} for _ in names),) if any_rows else None
    try:
        with torch.no_grad():
            program = torch.export.export(Positional(), sample, dynamic_shapes=shapes)
    except Exception as error:  # torch.export raises many kinds, few of them its own
        raise UserError(
            f"ranker {ranker.name!r} cannot be exported: {explain_export_error(error)}"
        ) from error
    unpack_columns(program)
    return program


def first_rows(ranker: Ranker, rows: int) -> Columns:
    """Return the first evaluation rows, ``[rows, …]`` each, from the start again if there are less.

    Args:
        ranker: Whose evaluation requests are read.
        rows: How many.
    """
    return evaluation_rows(ranker, np.resize(np.arange(ranker.evaluation.rows), rows))


def evaluation_rows(ranker: Ranker, rows: np.ndarray) -> Columns:
    """Return the evaluation rows at ``rows`` (int64 ``[n]``) as flat columns ``[n, …]``."""
    batch = ranker.evaluation
    requests = np.searchsorted(batch.offsets, rows, side="right") - 1
    columns = {name: x[requests] for name, x in batch.user.items()}
    return columns | {name: x[rows] for name, x in batch.items.items()}


def own_functions(module: nn.Module) -> list[types.FunctionType]:
    """Return the methods of every class in a module that is not torch's own, in a fixed order."""
    kinds = {kind for each in module.modules() for kind in type(each).__mro__}
    return [
        function
        for kind in sorted(kinds, key=lambda each: (each.__module__, each.__qualname__))
        if not kind.__module__.startswith(("torch.", "builtins"))
        for function in vars(kind).values()
        if isinstance(function, types.FunctionType)
    ]
