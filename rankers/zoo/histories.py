"""What rankers of histories share: events and candidates looked up in the same tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rankers.errors import UserError
from rankers.zoo.layers import FeatureEmbedding, dense_vector, inputs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.features import Signature


def history_options(signature: Signature) -> dict[str, Any]:
    """Return which features are histories of which item features, and all others.

    A history is a feature of the user with padding; what it is a history of is the single ID of the
    item with its name (``history_category``: ``category``) or, if there is none, its cardinality.

    Raises:
        UserError: There is no history.
    """
    single = [each for each in signature.item if each.cardinality and each.padding is None]
    histories = {}
    for each in signature.user:
        if each.padding is None:
            continue
        named = [x.name for x in single if each.name == f"history_{x.name}"]
        sized = [x.name for x in single if x.cardinality == each.cardinality]
        if named or len(sized) == 1:
            histories[each.name] = (named or sized)[0]
    if not histories:
        raise UserError(
            "there is no history: a feature of the user with padding and the cardinality of one of "
            "the item's single IDs"
        )
    return inputs_of(signature.features) | {"histories": histories}


class Events(nn.Module):
    """Embeds events, the candidate and all other features.

    Args:
        ids: All ID features; see `rankers.zoo.layers.inputs_of`.
        dense: Widths of the float features, by name.
        histories: For each history, the item feature whose table it shares.
        embedding: The width of every table.
        std: Of the initial values of events' tables.
    """

    def __init__(
        self,
        ids: Mapping[str, Mapping[str, int | None]],
        dense: Mapping[str, int],
        histories: Mapping[str, str],
        embedding: int,
        *,
        std: float = 0.05,
    ) -> None:
        super().__init__()
        self.histories = dict(histories)
        self.padding = {name: int(ids[name]["padding"] or 0) for name in histories}
        self.dense = tuple(dense)
        targets = set(histories.values())
        self.targets = FeatureEmbedding(
            {name: ids[name] for name in ids if name in targets}, embedding, std=std
        )
        self.others = FeatureEmbedding(
            {name: ids[name] for name in ids if name not in targets | set(histories)}, embedding
        )
        self.width = len(histories) * embedding  # of an event, and of the candidate
        self.others_width = len(self.others.tables) * embedding + sum(dense.values())

    def forward(self, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return events, their mask, the candidate and the rest.

        Returns:
            ``[B, L, width]``, bool ``[B, L]``, ``[B, width]`` and ``[B, others_width]``.
        """
        events, target = [], []
        mask = None
        for name, item in self.histories.items():
            table = self.targets.tables[item]
            events.append(table(columns[name]))
            target.append(table(columns[item]))
            if mask is None:
                mask = columns[name] != self.padding[name]
        assert mask is not None  # noqa: S101 - there is a history
        rest = self.others(columns)
        dense = dense_vector(columns, self.dense)
        rest = [*rest, *([] if dense is None else [dense])]
        candidate = torch.cat(target, dim=-1)
        others = torch.cat(rest, dim=1) if rest else candidate[:, :0]
        return torch.cat(events, dim=-1), mask, candidate, others
