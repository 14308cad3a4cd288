"""The state of an unfinished training in a file, so that a kill costs seconds and not hours."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from rankers.data.log import RankingLog
    from rankers.data.shards import ShardedLog


@dataclass
class Interrupted:
    """Reads and writes the state.

    Attributes:
        reads: The file to go on from; None to begin anew.
        writes: The file to write; None to write nothing.
        key: What the state belongs to: another key's is not gone on from.
        every_s: How often it is written.
        due: When the next time is, on the monotonic clock.
    """

    reads: Path | None
    writes: Path | None
    key: str
    every_s: float
    due: float

    @classmethod
    def of(
        cls,
        path: Path | None,
        belongs_to: tuple[RankingLog | ShardedLog, dict[str, Any], nn.Module],
        *,
        every_s: float,
        writes: bool,
    ) -> Interrupted:
        """Make the key of log, options and module, if there is a file at all."""
        key = "" if path is None else _key(*belongs_to)
        return cls(path, path if writes else None, key, every_s, time.monotonic() + every_s)

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved; None if there is none of this key."""
        import pickle

        import torch

        if self.reads is None or not self.reads.is_file():
            return None
        try:
            saved = torch.load(self.reads, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None  # damaged: begin anew
        if not isinstance(saved, dict) or saved.get("key") != self.key:
            return None
        state: dict[str, Any] = saved["state"]
        return state

    def save_if_due(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state if the last time was long enough ago."""
        if self.writes is None or time.monotonic() < self.due:
            return
        import torch

        buffer = io.BytesIO()
        torch.save({"key": self.key, "state": state()}, buffer)
        write_atomically(self.writes, buffer.getvalue())
        self.due = time.monotonic() + self.every_s

    def remove(self) -> None:
        """Remove the file: the training is finished."""
        if self.writes is not None:
            self.writes.unlink(missing_ok=True)


def _key(log: RankingLog | ShardedLog, options: dict[str, Any], module: nn.Module) -> str:
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    digest.update(json.dumps(log.signature.to_json()).encode())
    _add_log(digest, log)
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
    return digest.hexdigest()


def _add_log(digest: hashlib._Hash, log: RankingLog | ShardedLog) -> None:
    from rankers.data.log import RankingLog

    if not isinstance(log, RankingLog):
        digest.update(f"{log.key} {len(log.pieces)} {log.seed}".encode())
        return
    requests = log.requests
    for columns in (
        requests.user,
        requests.items,
        {"": requests.labels, "offsets": requests.offsets},
    ):
        for name, column in sorted(columns.items()):
            if column is not None:
                digest.update(name.encode())
                digest.update(column.tobytes())
