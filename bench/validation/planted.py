"""Changes to a trained ranker of which it is known whether gates should stop them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bench.validation.small_world import SmallRanker
    from optimize.runtimes import Predictor
    from rankers.requests import Array, Columns

    Change = Callable[["Planting"], Predictor]


@dataclass(frozen=True)
class Planting:
    """What a change is made of.

    Attributes:
        module: The trained ranker; a change works on a copy.
        random: Where it happens: which table, channel, unit, row.
        columns: Every candidate of the evaluation, ``[ΣN, …]`` by feature.
    """

    module: SmallRanker
    random: np.random.Generator
    columns: Columns

    def rarest(self, share: float) -> Tensor:
        """Return the rarest items, as many as a share of the candidates are."""
        counts = np.bincount(self.columns["item"])
        found = np.flatnonzero(counts)
        order = found[np.argsort(counts[found], kind="stable")]
        return torch.from_numpy(order[np.cumsum(counts[order]) <= share * counts.sum()])

    def changed(self) -> SmallRanker:
        """Return a copy of the ranker to change."""
        return copy.deepcopy(self.module)


def scores_of(module: torch.nn.Module, *, double: bool = False) -> Predictor:
    """Return the module as a predictor: from columns to scores, float32 ``[rows]``."""

    def predict(inputs: Columns) -> Array:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(column) for name, column in inputs.items()}
            if double:
                floats = {name: x.double() for name, x in tensors.items() if x.is_floating_point()}
                tensors |= floats
            found: Array = module(**tensors).float().numpy()
        return found

    return predict


def wrong_scale_on_one_table(planting: Planting) -> Predictor:
    """A table's rows come back at half or double their size, as with a wrong scale of its codes."""
    module = planting.changed()
    table = [module.user, module.item, module.brand][planting.random.integers(3)]
    with torch.no_grad():
        table.weight *= float(planting.random.choice([0.5, 2.0]))
    return scores_of(module)


def one_channel_zeroed(planting: Planting) -> Predictor:
    """A channel of the item table is lost."""
    module = planting.changed()
    with torch.no_grad():
        module.item.weight[:, planting.random.integers(module.item.weight.shape[1])] = 0
    return scores_of(module)


def rare_items_share_a_row(planting: Planting) -> Predictor:
    """The rows that a tenth of the candidates read are replaced by one of them."""
    return _folded(planting, 0.1)


def rarest_items_share_a_row(planting: Planting) -> Predictor:
    """The same of three candidates in a hundred, which the mean hardly shows."""
    return _folded(planting, 0.03)


def _folded(planting: Planting, share: float) -> Predictor:
    module, rows = planting.changed(), planting.rarest(share)
    with torch.no_grad():
        shared = module.item.weight[rows[planting.random.integers(len(rows))]].clone()
        module.item.weight[rows] = shared
    return scores_of(module)


def two_features_swapped(planting: Planting) -> Predictor:
    """Two inputs of one type are bound to each other's names."""
    predict = scores_of(planting.module)
    return lambda inputs: predict(inputs | {"price": inputs["rating"], "rating": inputs["price"]})


def sign_flipped_in_one_unit(planting: Planting) -> Predictor:
    """One unit of the second hidden layer counts against the score instead of for it.

    Of those that do count: a unit that hardly moves the score is as good with either sign.
    """
    module = planting.changed()
    active: list[Tensor] = []
    module.second.register_forward_hook(lambda _, __, output: active.append(torch.relu(output)))
    scores_of(module)(planting.columns)
    part = active[0].std(0) * module.last.weight[0].abs()
    counting = torch.nonzero(part >= 0.2 * part.max()).flatten()
    with torch.no_grad():
        module.last.weight[0, counting[planting.random.integers(len(counting))]] *= -1
    return scores_of(module)


def nan_in_one_row(planting: Planting) -> Predictor:
    """One row of the brand table holds a NaN."""
    module = planting.changed()
    row, column = (planting.random.integers(size) for size in module.brand.weight.shape)
    with torch.no_grad():
        module.brand.weight[row, column] = torch.nan
    return scores_of(module)


def sums_in_another_order(planting: Planting) -> Predictor:
    """Units and inputs of every layer are permuted: the same sums, rounded otherwise."""
    module = planting.changed()
    first, second = (
        torch.from_numpy(planting.random.permutation(layer.out_features))
        for layer in (module.first, module.second)
    )
    with torch.no_grad():
        for layer, order in ((module.first, first), (module.second, second)):
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
        module.second.weight.copy_(module.second.weight[:, first])
        module.last.weight.copy_(module.last.weight[:, second])
    return scores_of(module)


def sums_in_float64(planting: Planting) -> Predictor:
    """Every operator in float64, the score rounded to float32."""
    return scores_of(planting.changed().double(), double=True)


def tables_in_int8(planting: Planting) -> Predictor:
    """The tables' rows as int8 codes with a scale each, rounded at random."""
    module = planting.changed()
    with torch.no_grad():
        for table in (module.user, module.item, module.brand):
            scale = table.weight.abs().amax(1, keepdim=True) / 127
            chance = torch.from_numpy(planting.random.random(table.weight.shape)).float()
            table.weight.copy_(torch.floor(table.weight / scale + chance) * scale)
    return scores_of(module)


def weights_in_bfloat16(planting: Planting) -> Predictor:
    """The dense layers' weights with 8 bits of precision, rounded at random."""
    module = planting.changed()
    with torch.no_grad():
        for layer in (module.first, module.second, module.last):
            noise = torch.from_numpy(planting.random.uniform(-1, 1, layer.weight.shape)).float()
            layer.weight *= 1 + noise * 2.0**-8
    return scores_of(module)


FAULTS: dict[str, Change] = {
    "wrong scale on one table": wrong_scale_on_one_table,
    "one channel zeroed": one_channel_zeroed,
    "rare items share a row": rare_items_share_a_row,
    "rarest items share a row": rarest_items_share_a_row,
    "two features swapped": two_features_swapped,
    "sign flipped in one unit": sign_flipped_in_one_unit,
    "NaN in one row": nan_in_one_row,
}
# Of these the mean shows little: they are for the gate of slices.
HIDDEN = frozenset({"rarest items share a row"})
LOSSLESS: dict[str, Change] = {
    "sums in another order": sums_in_another_order,
    "sums in float64": sums_in_float64,
}
LOSSY: dict[str, Change] = {
    "tables in int8": tables_in_int8,
    "weights in bfloat16": weights_in_bfloat16,
}
