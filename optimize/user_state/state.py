"""What was computed for users, to be kept and given back, and its form in bytes.

A state is bytes in the format of safetensors: nothing is unpickled. It names the version of the
artifact that made it, and is of use to that one alone. Its checksum finds damage, not malice:
whoever can write states can write scores, so sign or encrypt what leaves your hands.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.requests import Columns

_FORM = "rankserve user state 1"
_AGAIN = "compute it again from the user's features"


class UserStateError(UserError):
    """A state cannot be used. The user's features give a new one."""


class OtherVersionError(UserStateError):
    """A state is of another version of the ranker than the one that is to use it."""


@dataclass(frozen=True, eq=False, slots=True)
class UserState:
    """What one version of a ranker computed for R users. What is in it is that version's own.

    Attributes:
        version: Of the artifact: a fingerprint of all that decides its scores.
        tensors: By name, each ``[R, …]``; they cannot be written to.
    """

    version: str
    tensors: Columns

    def __post_init__(self) -> None:
        for tensor in self.tensors.values():
            tensor.setflags(write=False)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: int) -> UserState:
        position = range(len(self))[index]
        own = {name: x[position : position + 1].copy() for name, x in self.tensors.items()}
        return UserState(self.version, own)

    @property
    def nbytes(self) -> int:
        """The size of the tensors, for all its users."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def to_bytes(self) -> bytes:
        """Return it as bytes, which `from_bytes` reads."""
        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(x) for name, x in self.tensors.items()}
        checksum = _checksum(self.version, tensors)
        metadata = {"form": _FORM, "version": self.version, "sha256": checksum}
        content: bytes = save(tensors, metadata)
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> UserState:
        """Read what `to_bytes` gave.

        Raises:
            UserStateError: It is something else, or was damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(content)
            # safetensors gives metadata of files only: 8 bytes of length, then JSON.
            length = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + length])["__metadata__"]
            form, version, stated = (metadata[name] for name in ("form", "version", "sha256"))
        except (SafetensorError, KeyError, ValueError) as error:
            raise UserStateError(
                f"{len(content)} bytes are no user state, or a part of one: {_AGAIN}"
            ) from error
        if form != _FORM:
            raise UserStateError(f"a user state has the form {form!r}, not {_FORM!r}: {_AGAIN}")
        if stated != _checksum(version, tensors):
            raise UserStateError(f"a user state of {len(content)} bytes was damaged: {_AGAIN}")
        return cls(version, tensors)

    def check_version(self, version: str) -> None:
        """Refuse to be used by another version than the own.

        Raises:
            OtherVersionError: It would be.
        """
        if self.version != version:
            raise OtherVersionError(
                f"the user state is of version {self.version[:16]}, this ranker is "
                f"{version[:16]}: {_AGAIN}"
            )


def join_states(states: Sequence[UserState]) -> UserState:
    """Put states below each other, to rank for their users in one call.

    Raises:
        UserStateError: There is none, or they are not of one version.
    """
    if not states:
        raise UserStateError("there are no user states to join")
    first = states[0]
    for each in states[1:]:
        each.check_version(first.version)
    if len(states) == 1:
        return first
    return UserState(
        first.version,
        {name: np.concatenate([each.tensors[name] for each in states]) for name in first.tensors},
    )


def _checksum(version: str, tensors: Columns) -> str:
    digest = hashlib.sha256(version.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(tensor.data)
    return digest.hexdigest()
