"""One float matrix of all features, as DeepCTR-Torch's models take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rankers.adapters.call import Argument
from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Feature

# The largest whole number up to which the type tells all whole numbers apart.
_EXACT = {"float32": 2**24, "float64": 2**53}


class PackedMatrix(Argument):
    """Features side by side in one float matrix ``[rows, columns]``.

    A float32 tells whole numbers apart up to 2^24 only; beyond, two IDs become one, silently, and
    read the same row of a table. That is refused here: by the cardinality where a feature states
    it, else by the values that are scored.

    Args:
        features: What goes in: the signature's features, or some of them.
        columns: Where each feature stands, by its name the first column and the one after its last;
            DeepCTR-Torch's models say so in ``model.feature_index``. Without it, features stand in
            their order.
        dtype: The matrix's type.

    Raises:
        UserError: A feature's IDs do not fit the type, or features and columns do not agree.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        columns: Mapping[str, tuple[int, int]] | None = None,
        *,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        self.dtype = dtype
        by_name = {each.name: each for each in features}
        self._features = [by_name[name] for name in _order(by_name, columns)]
        self.reads = tuple(each.name for each in self._features)
        for each in self._features:
            if each.dtype.startswith("int") and (each.cardinality or 1) - 1 > _EXACT[dtype]:
                raise self._lossy(each, f"has IDs up to {(each.cardinality or 1) - 1:,}")

    def make(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return the matrix, ``[rows, columns]``."""
        parts = []
        for each in self._features:
            column = columns[each.name]
            if not torch.compiler.is_exporting():
                self._check_values(each, column)
            flat = column.unsqueeze(1) if column.dim() == 1 else column.flatten(1)
            if flat.shape[1] != each.width:
                raise UserError(
                    f"feature {each.name!r} is {flat.shape[1]} wide; its place in the matrix is "
                    f"{each.width} wide"
                )
            parts.append(flat.to(getattr(torch, self.dtype)))
        return torch.cat(parts, dim=1)

    def _check_values(self, feature: Feature, column: Tensor) -> None:
        """Look at values whose range no cardinality states."""
        if feature.cardinality is None and not column.is_floating_point() and column.numel():
            largest = max(int(column.max()), -int(column.min()))
            if largest > _EXACT[self.dtype]:
                raise self._lossy(feature, f"holds {largest:,}")

    def _lossy(self, feature: Feature, what: str) -> UserError:
        return UserError(
            f"feature {feature.name!r} {what}, and {self.dtype} tells whole numbers apart up to "
            f"{_EXACT[self.dtype]:,} only: hash its IDs to fewer, or train a module that takes "
            "them as int64"
        )


def _order(
    features: Mapping[str, Feature], columns: Mapping[str, tuple[int, int]] | None
) -> list[str]:
    """Return the features' names in the order of their columns, which have no gaps."""
    if columns is None:
        return list(features)
    for name in features:
        if name not in columns:
            raise UserError(f"the matrix has no feature {name!r}; {nearest(name, columns)}")
    end = 0
    for name, (start, stop) in sorted(columns.items(), key=lambda each: each[1]):
        if name not in features:
            raise UserError(
                f"columns {start} to {stop - 1} of the matrix are feature {name!r}, which was not "
                f"given; {nearest(name, features)}"
            )
        if start != end or stop - start != features[name].width:
            raise UserError(
                f"feature {name!r} is {features[name].width} wide, and its columns are {start} to "
                f"{stop - 1} after {end} columns of others"
            )
        end = stop
    return sorted(columns, key=lambda name: columns[name])
