"""Features and signatures: what a ranker reads for one (user, candidate) pair, and its score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rankers.errors import UserError, nearest

Side = Literal["user", "item"]
Dtype = Literal["int64", "int32", "float32", "float64", "float16", "bool"]
ScoreKind = Literal["probability", "logit", "relevance"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One named input of a ranker.

    Attributes:
        name: The keyword under which the module's ``forward`` takes it.
        dtype: NumPy's name of its element type.
        shape: The shape of one row, without the batch: ``()`` for an ID, ``(13,)`` for a vector.
        side: ``user`` if it is the same for every candidate of a request, else ``item``.
        cardinality: For IDs, how many there are: values run from 0 to ``cardinality - 1``.
        padding: For bags and sequences of IDs (several tags, a history, a text's tokens): the ID
            that marks a place as empty. ``shape`` is then ``(L,)``, with L the largest number of
            IDs, and a row of fewer ends in padding (`rankers.bags` makes such rows).
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...] = ()
    side: Side = "item"
    cardinality: int | None = None
    padding: int | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UserError(f"feature name {self.name!r} is not a Python identifier")
        if self.dtype not in get_args(Dtype):
            raise UserError(
                f"feature {self.name!r} has dtype {self.dtype!r}; "
                f"{nearest(self.dtype, get_args(Dtype))}"
            )
        if self.side not in get_args(Side):
            raise UserError(f"feature {self.name!r} has side {self.side!r}; it is 'user' or 'item'")
        if any(size < 1 for size in self.shape):
            raise UserError(f"feature {self.name!r} has shape {self.shape}; sizes are 1 or more")
        if self.cardinality is not None and (
            self.cardinality < 1 or not self.dtype.startswith("int")
        ):
            raise UserError(
                f"feature {self.name!r} has cardinality {self.cardinality} and dtype {self.dtype}; "
                "a cardinality is 1 or more and belongs to an integer feature"
            )
        self._check_padding()

    def _check_padding(self) -> None:
        if self.padding is None:
            return
        if len(self.shape) != 1 or not self.dtype.startswith("int"):
            raise UserError(
                f"feature {self.name!r} has padding {self.padding}, dtype {self.dtype} and shape "
                f"{self.shape}; padding belongs to integers of shape (L,)"
            )
        if self.cardinality is not None and not 0 <= self.padding < self.cardinality:
            raise UserError(
                f"feature {self.name!r} has padding {self.padding} and cardinality "
                f"{self.cardinality}; padding is one of the IDs 0 to {self.cardinality - 1}"
            )

    @property
    def width(self) -> int:
        """How many values one row holds."""
        return math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Return the feature as JSON-ready data."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "side": self.side,
            "cardinality": self.cardinality,
            "padding": self.padding,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Feature:
        """Read what `to_json` wrote."""
        return cls(
            name=data["name"],
            dtype=data["dtype"],
            shape=tuple(data["shape"]),
            side=data["side"],
            cardinality=data["cardinality"],
            padding=data.get("padding"),
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """A ranker's inputs, in the order of its ``forward``, and the meaning of its score.

    Attributes:
        features: The inputs. Names are unique.
        score: ``probability`` (in [0, 1]), ``logit`` (a probability before the sigmoid), or
            ``relevance`` (only its order means something).
        ignored: Names of features that are no longer read: requests that still have them are
            right all the same.
    """

    features: tuple[Feature, ...]
    score: ScoreKind = "probability"
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for feature in self.features:
            if feature.name in seen:
                raise UserError(f"feature {feature.name!r} is named twice in the signature")
            seen.add(feature.name)
        for name in self.ignored:
            if name in seen:
                raise UserError(f"feature {name!r} is both read and ignored in the signature")
        if not self.item:
            raise UserError("a signature needs at least one item feature to tell candidates apart")
        if self.score not in get_args(ScoreKind):
            raise UserError(
                f"score kind {self.score!r} is unknown; {nearest(self.score, get_args(ScoreKind))}"
            )

    @property
    def user(self) -> tuple[Feature, ...]:
        """The user-side features, in order."""
        return tuple(each for each in self.features if each.side == "user")

    @property
    def item(self) -> tuple[Feature, ...]:
        """The item-side features, in order."""
        return tuple(each for each in self.features if each.side == "item")

    def feature(self, name: str) -> Feature:
        """Return the feature called ``name``.

        Raises:
            UserError: There is none; the message names the nearest.
        """
        for each in self.features:
            if each.name == name:
                return each
        names = [each.name for each in self.features]
        raise UserError(f"unknown feature {name!r}; {nearest(name, names)}")

    def to_json(self) -> dict[str, Any]:
        """Return the signature as JSON-ready data."""
        data = {"features": [each.to_json() for each in self.features], "score": self.score}
        return data | ({"ignored": list(self.ignored)} if self.ignored else {})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Read what `to_json` wrote."""
        return cls(
            features=tuple(Feature.from_json(each) for each in data["features"]),
            score=data["score"],
            ignored=tuple(data.get("ignored", ())),
        )
