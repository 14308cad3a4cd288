"""torchrec's keyed tensors out of a ranker's features.

A `KeyedJaggedTensor` has as many values as there are IDs, which depends on the data: no shape in a
graph can be made of that. So a module is *judged* with real ones, and *traced* with padded bags in
their place, which `rankers.adapters.embedding_bags` looks up. The gates then compare the traced
module with the real one, score by score (docs/decisions/010-torchrec-bags.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from rankers.adapters.call import Argument
from rankers.adapters.embedding_bags import gathered_bags
from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from rankers.features import Feature


class KeyedJagged(Argument):
    """A torchrec ``KeyedJaggedTensor``: a bag of IDs for each key and row.

    A feature with padding gives each row its IDs without the padding; any other gives all it holds.

    Args:
        features: Integer features, ``()`` or ``(L,)``.
        keys: The tensor's key for each feature that has another name there.
        weights: For a weighted tensor, by feature the float feature of the same shape with a weight
            for each ID. All features have one, or none has.

    Raises:
        UserError: A feature does not hold IDs, or is named that is not among ``features``.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        *,
        keys: Mapping[str, str] | None = None,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        names = {each.name for each in features}
        for name in (*(keys or {}), *(weights or {})):
            if name not in names:
                raise UserError(f"no jagged feature {name!r}; {nearest(name, names)}")
        for each in features:
            if not each.dtype.startswith("int") or len(each.shape) > 1:
                raise UserError(
                    f"feature {each.name!r} has dtype {each.dtype} and shape {each.shape}; "
                    "a jagged tensor holds integers of shape () or (L,)"
                )
            if weights and each.name not in weights:
                raise UserError(f"feature {each.name!r} has no weights, and others have")
        self._features = tuple(features)
        self._keys = {each.name: (keys or {}).get(each.name, each.name) for each in features}
        self._weights = dict(weights or {})
        self.reads = (*(each.name for each in features), *self._weights.values())

    def make(self, columns: Mapping[str, Tensor]) -> Any:
        """Return a ``KeyedJaggedTensor``, or the padded bags that stand for it while tracing."""
        bags = {self._keys[each.name]: self._bag(each, columns) for each in self._features}
        return PaddedBags(bags) if torch.compiler.is_exporting() else _jagged(bags)

    def _bag(self, feature: Feature, columns: Mapping[str, Tensor]) -> Bag:
        ids = columns[feature.name]
        weights = columns[self._weights[feature.name]] if self._weights else None
        if ids.dim() == 1:
            ids = ids.unsqueeze(1)
            weights = None if weights is None else weights.reshape(-1, 1)
        mask = None if feature.padding is None else ids != feature.padding
        return Bag(ids, mask, weights)

    def tracing(self, module: nn.Module) -> AbstractContextManager[None]:
        """Let the module's embedding collections read padded bags."""
        return gathered_bags(module)


class KeyedDense(Argument):
    """A torchrec ``KeyedTensor``: a vector for each key and row.

    Args:
        names: Float features ``()`` or ``(width,)`` under their own names.
        renamed: Features under the tensor's keys.
    """

    def __init__(self, /, *names: str, **renamed: str) -> None:
        self._keys = {name: name for name in names} | renamed
        self.reads = tuple(self._keys.values())

    def make(self, columns: Mapping[str, Tensor]) -> Any:
        """Return the ``KeyedTensor``, values ``[rows, Σ width]``."""
        from torchrec import KeyedTensor

        parts = [columns[name] for name in self._keys.values()]
        parts = [each.unsqueeze(1) if each.dim() == 1 else each for each in parts]
        return KeyedTensor(
            keys=list(self._keys),
            length_per_key=[int(each.shape[1]) for each in parts],
            values=torch.cat(parts, dim=1),
        )


@dataclass(frozen=True)
class Bag:
    """The IDs of one key.

    Attributes:
        ids: Integers ``[rows, L]``.
        mask: Which places are filled, bool ``[rows, L]``; None if all are.
        weights: Of the IDs, float ``[rows, L]``, or None.
    """

    ids: Tensor
    mask: Tensor | None
    weights: Tensor | None


class PaddedBags:
    """What stands for a ``KeyedJaggedTensor`` while a module is traced.

    It knows its keys and rows, and nothing whose shape depends on the data.
    """

    def __init__(self, bags: Mapping[str, Bag]) -> None:
        self.bags = dict(bags)

    def keys(self) -> list[str]:
        """Return the keys in order."""
        return list(self.bags)

    def stride(self) -> int:
        """Return the number of rows."""
        return next(iter(self.bags.values())).ids.shape[0]

    def __getitem__(self, key: str) -> NoReturn:
        self.__getattr__(key)

    def __getattr__(self, name: str) -> NoReturn:
        raise UserError(
            f"the module reads {name!r} of a KeyedJaggedTensor, whose shape depends on the data: "
            "only what goes through an EmbeddingBagCollection can be exported"
        )


def _jagged(bags: Mapping[str, Bag]) -> Any:
    """Return a real jagged tensor: the filled places of each key, one key after the other."""
    from torchrec import KeyedJaggedTensor

    values, lengths, weights = [], [], []
    for bag in bags.values():
        mask = torch.ones_like(bag.ids, dtype=torch.bool) if bag.mask is None else bag.mask
        values.append(bag.ids[mask])
        lengths.append(mask.sum(1))
        if bag.weights is not None:
            weights.append(bag.weights[mask])
    return KeyedJaggedTensor(
        keys=list(bags),
        values=torch.cat(values),
        lengths=torch.cat(lengths),
        weights=torch.cat(weights) if weights else None,
    )
