"""The features that DeepCTR-Torch's feature columns describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankers.errors import UserError, nearest
from rankers.features import Feature, Side

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def deepctr_features(columns: Sequence[Any], *, user: Collection[str] = ()) -> tuple[Feature, ...]:
    """Return a feature for each column that a DeepCTR-Torch model was made with.

    ``SparseFeat`` becomes an ID of its vocabulary, ``DenseFeat`` a float or a vector of floats,
    ``VarLenSparseFeat`` a bag of IDs with padding 0, and its ``length_name`` a number of its own.

    Args:
        columns: The model's feature columns (linear and deep together; each name counts once).
        user: The names of the features that are the same for all candidates of a request.

    Raises:
        UserError: A column is none of the three, or ``user`` names a feature that there is not.
    """
    found: dict[str, Feature] = {}
    for column in columns:
        for name, options in _described(column):
            side: Side = "user" if name in user else "item"
            found.setdefault(name, Feature(name, side=side, **options))
    for name in user:
        if name not in found:
            raise UserError(f"no feature column {name!r} to be the user's; {nearest(name, found)}")
    return tuple(found.values())


def _described(column: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and the options of the features that one column stands for."""
    ids = {"dtype": "int64", "cardinality": getattr(column, "vocabulary_size", None)}
    if hasattr(column, "maxlen"):
        bag = (column.name, ids | {"shape": (column.maxlen,), "padding": 0})
        if column.length_name is None:
            return [bag]
        return [bag, (column.length_name, {"dtype": "int64", "cardinality": column.maxlen + 1})]
    if hasattr(column, "vocabulary_size"):
        return [(column.name, ids)]
    if hasattr(column, "dimension"):
        shape = () if column.dimension == 1 else (column.dimension,)
        return [(column.name, {"dtype": "float32", "shape": shape})]
    raise UserError(
        f"{column!r} is no feature column; expected SparseFeat, DenseFeat or VarLenSparseFeat"
    )
