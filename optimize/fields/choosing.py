"""Which features go: those named, or the ones worth least under a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.fields.constants import constants
from optimize.fields.importance import losses, metrics_of, score_change
from optimize.fields.reading import score_with
from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.fields.constants import Constant
    from optimize.fields.importance import Importance
    from optimize.flat_graph import FlatGraph
    from rankers.features import Signature
    from rankers.intervals import Interval
    from rankers.requests import Array, RequestBatch


@dataclass(frozen=True)
class Budget:
    """What is asked for; one of the three.

    Attributes:
        names: Features that go.
        fields: How many may stay; 0 if that is not asked.
        max_auc_loss: What the AUC may lose, at the bad end of its interval; 0 if that is not asked.
    """

    names: tuple[str, ...] = ()
    fields: int = 0
    max_auc_loss: float = 0.0

    def check(self, signature: Signature, requests: RequestBatch) -> None:
        """Check that features are there, and the labels that a loss takes.

        Raises:
            UserError: A name is no feature, or there are no labels, clicked and not.
        """
        features = [each.name for each in signature.features]
        for name in self.names:
            if name not in features:
                raise UserError(
                    f"names has {name!r}, which is no feature; {nearest(name, features)}"
                )
        labels = requests.labels
        if self.max_auc_loss and (labels is None or not 0 < (labels > 0).sum() < len(labels)):
            raise UserError(
                "max_auc_loss needs calibration requests with labels, clicked and not: give some "
                "with Ranker(calibration=…), or say fields or names"
            )


@dataclass(frozen=True)
class Dropped:
    """What goes, and what becomes of scores without it, on the calibration requests.

    Attributes:
        constants: What stands in the place of each, in the order in which they go.
        kept: Why a feature that might have gone stays, by name.
        change: The mean change of a score, as a share of the scores' spread.
        losses: Of each metric how much worse it is, where there are labels.
    """

    constants: tuple[Constant, ...]
    kept: dict[str, str]
    change: Interval | None
    losses: dict[str, Interval]

    @property
    def names(self) -> list[str]:
        """Of the features that go."""
        return [each.feature for each in self.constants]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "dropped": {each.feature: each.kind for each in self.constants},
            "kept": self.kept,
            "score_change": None if self.change is None else self.change.to_json(),
            "losses": {name: each.to_json() for name, each in self.losses.items()},
        }


def choose(
    graph: FlatGraph,
    signature: Signature,
    requests: RequestBatch,
    reference: Array,
    *,
    worth: Sequence[Importance],
    budget: Budget,
) -> Dropped:
    """Choose features, from the one that is worth least upwards.

    Under a budget of AUC each is tried together with those that went before it, and stays if the
    bad end of their joint loss is beyond the budget.

    Args:
        graph: Flat, not changed.
        signature: Of its columns.
        requests: Calibration requests.
        reference: What the program scores on them, ``[ΣN]``.
        worth: Of every feature.
        budget: What is asked for, checked.

    Raises:
        UserError: All item features would go, a feature that is named cannot go, or more than may
            stay cannot.
    """
    chooser = _Chooser(graph, signature, requests, reference)
    if budget.names:
        for name in budget.names:
            chooser.must_drop(name)
        return chooser.dropped()
    ordered = [each.feature for each in sorted(worth, key=lambda each: each.rank)]
    for name in ordered:
        if budget.fields and len(signature.features) - len(chooser.chosen) <= budget.fields:
            break
        chooser.may_drop(name, budget.max_auc_loss)
    if budget.fields and len(signature.features) - len(chooser.chosen) > budget.fields:
        reasons = "; ".join(f"{name}: {why}" for name, why in chooser.kept.items())
        raise UserError(f"no more than {budget.fields} features cannot be reached: {reasons}")
    return chooser.dropped()


class _Chooser:
    """Features that go so far."""

    def __init__(
        self, graph: FlatGraph, signature: Signature, requests: RequestBatch, reference: Array
    ) -> None:
        self._graph = graph
        self._signature = signature
        self._requests = requests
        self._reference = reference
        self.chosen: list[Constant] = []
        self.kept: dict[str, str] = {}

    def must_drop(self, name: str) -> None:
        """Let a feature go that is named."""
        constant, why = self._constant(name)
        if constant is None:
            raise UserError(f"feature {name!r} cannot go: {why}")
        self.chosen.append(constant)

    def may_drop(self, name: str, max_auc_loss: float) -> None:
        """Let a feature go, if it can and the AUC allows it; 0 allows all."""
        constant, why = self._constant(name)
        if constant is not None and max_auc_loss:
            lost = self._losses([*self.chosen, constant])["auc"].high
            if not lost <= max_auc_loss:
                constant, why = None, f"the AUC would lose up to {lost:.2g}"
        if constant is None:
            self.kept[name] = why
        else:
            self.chosen.append(constant)

    def dropped(self) -> Dropped:
        """Return what goes, judged together."""
        if not self.chosen:
            return Dropped((), self.kept, None, {})
        scores = self._scores(self.chosen)
        change = score_change(self._reference, [scores], self._requests.offsets)
        return Dropped(tuple(self.chosen), self.kept, change, self._losses(self.chosen))

    def _constant(self, name: str) -> tuple[Constant | None, str]:
        """Return what may stand in a feature's place; or None, and why nothing may."""
        gone = {each.feature for each in self.chosen}
        if name in gone:
            return None, "it goes already"
        if not [each for each in self._signature.item if each.name not in gone | {name}]:
            return None, "it is the last feature of items, and tells candidates apart"
        feature = self._signature.feature(name)
        found = constants(self._graph, feature, self._requests, self._reference)
        if not found:
            return None, "no constant in its place gives finite scores row by row"
        return found[0], ""

    def _scores(self, chosen: Sequence[Constant]) -> Array:
        return score_with(self._graph, self._requests, [each.values for each in chosen])

    def _losses(self, chosen: Sequence[Constant]) -> dict[str, Interval]:
        kind = self._signature.score
        scores = [self._scores(chosen)]
        return losses(self._reference, scores, self._requests, kind, metrics_of(kind))
