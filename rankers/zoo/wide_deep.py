"""Wide & Deep: Cheng et al., Wide & Deep Learning for Recommender Systems, DLRS 2016.

The wide part is linear in the IDs, in every ID of a bag, and in crossed IDs, which it learns by
heart; the deep part is an MLP over embeddings, which generalizes. Their scores are added.

The default sizes are the paper's: embeddings of 32, an MLP of 1024, 512 and 256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rankers.errors import UserError, nearest
from rankers.zoo.layers import ClickRanker, FeatureEmbedding, dense_vector, inputs_of, mlp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Signature

SMALL: dict[str, Any] = {"embedding": 16, "deep": [128, 64]}
TRAINING: dict[str, Any] = {"batch_rows": 256, "table_learning_rate": 0.15}


def options_for(signature: Signature) -> dict[str, Any]:
    """Return the options of a Wide & Deep that follow from its features."""
    return inputs_of(signature.features)


class WideDeep(ClickRanker):
    """A linear part and an MLP.

    Args:
        ids: The ID features; see `rankers.zoo.layers.inputs_of`. Bags are pooled to their sum in
            the wide part and to their mean in the deep part.
        dense: Widths of the float features, by name; they go to both parts.
        crosses: Pairs of single-ID features; a pair's two IDs make one, in ``cross_buckets``.
        cross_buckets: How many rows a crossed pair's table has, unless it needs fewer: the pair's
            number, first · cardinality of the second + second, is taken modulo this.
        embedding: The width of the deep part's tables.
        deep: Widths of the MLP's hidden layers.
    """

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        dense: Mapping[str, int],
        *,
        crosses: Sequence[Sequence[str]] = (),
        cross_buckets: int = 100_000,
        embedding: int = 32,
        deep: Sequence[int] = (1024, 512, 256),
    ) -> None:
        super().__init__()
        self.dense = tuple(dense)
        self.wide = FeatureEmbedding(ids, 1, pooling="sum", std=0.01)
        numbers = sum(dense.values())
        self.wide_dense = nn.Linear(numbers, 1) if numbers else None
        self.crosses = [_pair(each, ids) for each in crosses]
        self.cross_tables = nn.ModuleList()
        self.sizes: list[tuple[int, int]] = []  # the second's cardinality and the table's rows
        for first, second in self.crosses:
            count = int(ids[second]["cardinality"] or 0)
            rows = min(cross_buckets, int(ids[first]["cardinality"] or 0) * count)
            self.sizes.append((count, rows))
            table = nn.Embedding(rows, 1)
            nn.init.normal_(table.weight, std=0.01)
            self.cross_tables.append(table)
        self.embedding = FeatureEmbedding(ids, embedding)
        self.deep = mlp((len(ids) * embedding + numbers, *deep, 1))
        self.bias = nn.Parameter(torch.zeros(1))

    def logits(self, **columns: Tensor) -> Tensor:
        """Return the log-odds of a click, ``[rows]``."""
        dense = dense_vector(columns, self.dense)
        wide = self.wide(columns)  # [B, 1] each
        for (first, second), (count, rows), table in zip(
            self.crosses, self.sizes, self.cross_tables, strict=True
        ):
            wide.append(table((columns[first] * count + columns[second]) % rows))
        if dense is not None and self.wide_dense is not None:
            wide.append(self.wide_dense(dense))
        parts = self.embedding(columns) + ([] if dense is None else [dense])
        deep = self.deep(torch.cat(parts, dim=1))
        scores: Tensor = torch.cat(wide, dim=1).sum(1) + deep.squeeze(1) + self.bias
        return scores


def _pair(names: Sequence[str], ids: Mapping[str, Mapping[str, int | None]]) -> tuple[str, str]:
    single = [name for name, spec in ids.items() if spec["padding"] is None]
    for name in names:
        if name not in single:
            raise UserError(f"cannot cross {name!r}: it is no single ID; {nearest(name, single)}")
    if len(names) != 2:
        raise UserError(f"a cross is a pair of features; got {list(names)}")
    return names[0], names[1]


build = WideDeep
