"""Rank for users whose part was computed before, in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optimize.artifact import ArtifactError
from optimize.user_state.state import UserState, UserStateError
from rankers.requests import ITEM_TO_REQUEST, RequestError, check_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.artifact import Artifact
    from rankers.features import Signature
    from rankers.requests import Array, Columns

LAYOUT: Final = "user_state"
REPORT = "user-state.json"
USER_MODEL = "user.onnx"
CANDIDATES_MODEL = "candidates.onnx"


def open_user_state(folder: Path | str, *, threads: int | None = None) -> UserStatePredictor:
    """Open an artifact that the stage ``user_state`` made.

    Args:
        folder: The artifact's, or a run's.
        threads: For one call; by default one for each physical core.

    Raises:
        UserError: There is none, it is damaged or of another layout, or it does not run here.
    """
    from optimize.run import find_artifact
    from optimize.runtimes import open_predictor

    artifact = find_artifact(Path(folder))
    predictor = open_predictor(artifact, threads=threads)
    if not isinstance(predictor, UserStatePredictor):
        raise ArtifactError(
            f"{artifact.folder}: has the layout {artifact.manifest.layout!r} and keeps no user "
            "state; the recipe cpu-fp32-user-state makes one that does"
        )
    return predictor


@dataclass(frozen=True, eq=False, slots=True)
class UserStatePredictor:
    """A ranker in two parts. A user's part runs once; then candidates are ranked page by page.

    Called with the columns of a user-once artifact it scores them whole, like any predictor.

    Attributes:
        version: A fingerprint of all that decides its scores; what states are held against.
        signature: The ranker's features.
    """

    version: str
    signature: Signature
    _user: Any  # onnxruntime.InferenceSession
    _candidates: Any
    _inputs: tuple[str, ...]  # of the candidates' graph
    _shapes: dict[str, tuple[str, tuple[int, ...]]]  # of a state tensor: dtype, shape of one user

    def user(self, columns: Columns) -> UserState:
        """Compute the part of users.

        Args:
            columns: The user's features, ``[R, …]`` each.

        Returns:
            The state of these R users; ``state[r]`` is that of one.

        Raises:
            RequestError: The columns do not fit the signature.
        """
        users = _rows(columns)
        if users == 0:
            raise RequestError("there are no users to compute a state for; at least 1 is needed")
        check_columns(
            self.signature.user,
            columns,
            rows=users,
            side="user",
            ignored=self.signature.ignored,
        )
        return UserState(self.version, self._state(columns))

    def rank(
        self, state: UserState, items: Columns, candidates: Sequence[int] | None = None
    ) -> Array:
        """Score candidates for users whose state is known.

        Args:
            state: Of R users, from `user`, `UserState.from_bytes` or `join_states`.
            items: The items' features, ``[ΣN, …]`` each, user by user.
            candidates: N of each user; may be left out for one.

        Returns:
            float32 ``[ΣN]``: what the whole ranker scores, up to rounding.

        Raises:
            OtherVersionError: The state is of another version: compute it again.
            UserStateError: The state is not what this ranker computes.
            RequestError: The columns do not fit the signature, or a user has no candidates.
        """
        state.check_version(self.version)
        self._check_tensors(state)
        rows = _rows(items)
        counts = np.array([rows] if candidates is None else candidates, np.int64)
        if len(counts) != len(state) or counts.sum() != rows:
            raise RequestError(
                f"{rows} candidates for {len(state)} users, but candidates says "
                f"{counts.tolist()}; expected a number for each user that add up"
            )
        if (counts < 1).any():
            place = int(np.argmin(counts))
            raise RequestError(f"user {place} has no candidates; at least 1 is needed")
        check_columns(
            self.signature.item, items, rows=rows, side="item", ignored=self.signature.ignored
        )
        index = np.repeat(np.arange(len(counts)), counts)
        return self._score(state.tensors | items | {ITEM_TO_REQUEST: index})

    def __call__(self, inputs: Columns) -> Array:
        """Score the columns of a user-once artifact; see `optimize.runtimes.Predictor`."""
        return self._score(inputs | self._state(inputs))

    def _state(self, columns: Columns) -> Columns:
        names = list(self._shapes)
        given = {each.name: columns[each.name] for each in self.signature.user}
        return dict(zip(names, self._user.run(names, given), strict=True))

    def _score(self, inputs: Columns) -> Array:
        (scores,) = self._candidates.run(None, {name: inputs[name] for name in self._inputs})
        result: Array = scores.reshape(-1)
        return result

    def _check_tensors(self, state: UserState) -> None:
        """Look at what a checksum says nothing of: bytes may have been made by anyone."""
        found = {name: (str(x.dtype), x.shape[1:]) for name, x in state.tensors.items()}
        rows = {x.shape[:1] for x in state.tensors.values()}
        if found != self._shapes or len(rows) != 1:
            raise UserStateError(
                f"the user state holds {_listed(found)}; this ranker keeps {_listed(self._shapes)}"
            )


def open_parts(artifact: Artifact, user: Any, candidates: Any) -> UserStatePredictor:
    """Return the predictor of an artifact whose sessions are open.

    Raises:
        ArtifactError: What it says of its state tensors cannot be read.
    """
    manifest = artifact.manifest
    try:
        tensors = json.loads((artifact.folder / REPORT).read_bytes())["tensors"]
        shapes = {each["name"]: (each["dtype"], tuple(each["shape"])) for each in tensors}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{artifact.folder / REPORT}: cannot be read: {error}") from error
    inputs = tuple(each.name for each in candidates.get_inputs())
    return UserStatePredictor(manifest.key, manifest.signature, user, candidates, inputs, shapes)


def _rows(columns: Columns) -> int:
    """How many rows columns have; of what is no column, none."""
    first = next(iter(columns.values()), None)
    return len(first) if isinstance(first, np.ndarray) and first.ndim else 0


def _listed(shapes: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in shapes.items())
