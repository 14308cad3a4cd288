"""What a stage does to scores on purpose: an increasing function, which the artifact then states.

A recalibrated artifact scores otherwise than the original, and is meant to. Its manifest has the
function, so that the gates can tell what was meant from what went wrong: they apply it to the
original's scores. No candidate changes places by it. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from rankers.requests import Array

# The float32 probabilities that have a logit: the smallest ones are 0 in many kernels.
LOWEST, HIGHEST = 1e-30, 1 - 2.0**-24


class ScoreMap(Protocol):
    """An increasing function of a score."""

    def __call__(self, scores: Array) -> Array:
        """Return what scores ``[n]`` become, float32 as they are served."""
        ...

    def undo(self, scores: Array) -> Array:
        """Return the scores ``[n]`` that become these, float64; of a flat part's any one."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the function as JSON-ready data, which `score_map_of` reads."""
        ...


@dataclass(frozen=True, slots=True)
class Scaled:
    """A logit times ``scale``, plus ``shift``: temperature and Platt scaling.

    Attributes:
        scale: Above 0.
        shift: Any.
        probability: Whether scores are probabilities, of which the logit is taken, or logits.
    """

    scale: float
    shift: float
    probability: bool

    def __post_init__(self) -> None:
        if not (self.scale > 0 and np.isfinite([self.scale, self.shift]).all()):
            raise UserError(
                f"a score map has scale {self.scale} and shift {self.shift}; expected finite "
                "numbers and a scale above 0, for scores to keep their order"
            )

    def __call__(self, scores: Array) -> Array:
        """Return what scores become."""
        changed = self.scale * self._logits(scores) + self.shift
        return self._scores(changed).astype(np.float32)

    def undo(self, scores: Array) -> Array:
        """Return the scores that become these."""
        return self._scores((self._logits(scores) - self.shift) / self.scale)

    def to_json(self) -> dict[str, Any]:
        """Return the function as JSON-ready data."""
        return {"form": "scaled"} | asdict(self)

    def _logits(self, scores: Array) -> Array:
        values = scores.astype(np.float64)
        if not self.probability:
            return values
        kept = np.clip(values, LOWEST, HIGHEST)
        logits: Array = np.log(kept) - np.log1p(-kept)
        return logits

    def _scores(self, logits: Array) -> Array:
        if not self.probability:
            return logits
        found: Array = np.exp(-np.logaddexp(0.0, -logits))
        return found


@dataclass(frozen=True, slots=True)
class Piecewise:
    """Straight lines between knots: isotonic calibration.

    Attributes:
        x: Scores, ascending; at least two.
        y: What they become, none below the one before.
        end_slope: How steeply it goes on before the first knot and after the last.
        probability: Whether scores are probabilities; results are kept within 0 and 1 then.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    end_slope: float
    probability: bool

    def __post_init__(self) -> None:
        # In float32, as the graph has them: on a steep piece the next step is far away.
        x, y = (np.asarray(each, np.float32) for each in (self.x, self.y))
        for name, knots in (("x", x), ("y", y)):
            object.__setattr__(self, name, tuple(map(float, knots)))
        ordered = len(x) == len(y) >= 2 and (np.diff(x) > 0).all() and (np.diff(y) >= 0).all()
        finite = np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(self.end_slope)
        if not (ordered and finite and self.end_slope >= 0):
            raise UserError(
                f"a score map has {len(x)} and {len(y)} knots; expected two or more finite ones, "
                "ascending, for scores to keep their order"
            )

    @property
    def strict(self) -> bool:
        """Whether no two scores become one."""
        inside = bool((np.diff(self.y) > 0).all())
        ends = self.end_slope > 0 or (self.probability and self.x[0] <= 0 and self.x[-1] >= 1)
        return inside and ends

    def __call__(self, scores: Array) -> Array:
        """Return what scores become."""
        values = scores.astype(np.float64)
        beyond = np.minimum(values - self.x[0], 0) + np.maximum(values - self.x[-1], 0)
        changed = np.interp(values, self.x, self.y) + self.end_slope * beyond
        kept: Array = np.clip(changed, 0, 1) if self.probability else changed
        return kept.astype(np.float32)

    def undo(self, scores: Array) -> Array:
        """Return the scores that become these; of a flat part's any one."""
        values = scores.astype(np.float64)
        found: Array = np.interp(values, self.y, self.x)
        if self.end_slope > 0:
            beyond = np.minimum(values - self.y[0], 0) + np.maximum(values - self.y[-1], 0)
            found = found + beyond / self.end_slope
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the function as JSON-ready data."""
        return {
            "form": "piecewise",
            "x": list(self.x),
            "y": list(self.y),
            "end_slope": self.end_slope,
            "probability": self.probability,
        }


def score_map_of(data: dict[str, Any]) -> ScoreMap | None:
    """Read a manifest's ``score_map``; None if it is empty.

    Raises:
        UserError: It is no increasing function.
    """
    if not data:
        return None
    given = {name: value for name, value in data.items() if name != "form"}
    try:
        if data.get("form") == "scaled":
            return Scaled(**given)
        if data.get("form") == "piecewise":
            return Piecewise(tuple(given.pop("x")), tuple(given.pop("y")), **given)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"a score map cannot be read: {error}") from error
    raise UserError(f"a score map has form {data.get('form')!r}; expected 'scaled' or 'piecewise'")
