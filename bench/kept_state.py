"""A user's part computed before: what a later page of results costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optimize.user_state.predictor import UserStatePredictor
    from optimize.user_state.state import UserState
    from rankers.features import Signature
    from rankers.requests import Array, Columns, RankingRequest


@dataclass(frozen=True, slots=True, eq=False)
class KeptStateTarget:
    """Ranks by the state of each request's user, which was computed before the clock starts.

    Attributes:
        name: What reports call it.
        predictor: The opened artifact.
        read: Makes bytes a state.
        description: What it is.
        signature: Its features, to make requests up for.
        instances: See `bench.targets.Target`.
    """

    name: str
    predictor: UserStatePredictor
    read: Callable[[bytes], UserState]
    description: dict[str, Any]
    signature: Signature
    instances: int | None = 1

    def prepare(self, request: RankingRequest) -> tuple[bytes, Columns]:
        """Return the user's state, as a client keeps it, and the items' columns."""
        items = {name: np.ascontiguousarray(x) for name, x in request.items.items()}
        return self.predictor.user(request.user).to_bytes(), items

    def __call__(self, prepared: tuple[bytes, Columns]) -> Array:
        """Read the state, check it and the columns, and score: what a server would do."""
        kept, items = prepared
        return self.predictor.rank(self.read(kept), items)

    def describe(self) -> dict[str, Any]:
        """Say what was opened, and how."""
        return {"name": self.name, "instances": self.instances} | self.description

    def close(self) -> None:
        """Memory is let go of with the object."""


def open_kept_state(folder: Path, *, device: str, threads: int | None) -> KeptStateTarget:
    """Open an artifact of the layout ``user_state``, or the one a run chose.

    Raises:
        UserError: It has another layout, is damaged, or cannot be opened here.
    """
    from bench.targets import open_artifact_target
    from optimize.user_state.predictor import UserStatePredictor
    from optimize.user_state.state import UserState

    whole = open_artifact_target(folder, device=device, threads=threads)
    predictor = whole.predictor
    if not isinstance(predictor, UserStatePredictor):
        raise UserError(
            f"{folder}: keeps no user state; the recipe cpu-fp32-user-state makes what does"
        )
    return KeptStateTarget(
        name=f"{whole.name} kept",
        predictor=predictor,
        read=UserState.from_bytes,
        description=whole.describe() | {"name": f"{whole.name} kept", "kind": "kept user state"},
        signature=predictor.signature,
    )
