"""Small modules as graphs to rewrite."""

from __future__ import annotations

import torch
from torch.export import Dim, export

from optimize.flat_graph import flat_graph


def graph_of(module, names, user, sample):
    """Open a module of columns by position for rewriting; see `optimize.flat_graph.FlatGraph`."""
    rows = Dim("rows", min=1)
    columns = sample(5)
    with torch.no_grad():
        program = export(
            module.eval(), tuple(columns.values()), dynamic_shapes=tuple({0: rows} for _ in columns)
        )
    return flat_graph(program, names, user, sample)
