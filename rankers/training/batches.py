"""Minibatches of a log: single rows in drawn order, or whole requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.seen import count_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from rankers.data.log import RankingLog
    from rankers.requests import Array, RequestBatch
    from rankers.training.distributed import Share


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from.

    Attributes:
        columns: Features by name, ``[rows, …]``.
        labels: float32 ``[rows]``.
        request: The number of each row's request within the batch, ascending, int64 ``[rows]``.
        rows: How many rows the step has in all processes.
    """

    columns: dict[str, Tensor]
    labels: Tensor
    request: Tensor
    rows: int

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        columns = {name: x.to(device) for name, x in self.columns.items()}
        return Batch(columns, self.labels.to(device), self.request.to(device), self.rows)


class Rows:
    """Requests as tensors, of which rows are gathered. User features are held once a request.

    Args:
        requests: With labels.
    """

    def __init__(self, requests: RequestBatch) -> None:
        import torch

        assert requests.labels is not None  # noqa: S101 - a log has labels
        self.user = {name: torch.from_numpy(x) for name, x in requests.user.items()}
        self.items = {name: torch.from_numpy(x) for name, x in requests.items.items()}
        self.labels = torch.from_numpy(requests.labels)
        self.offsets, self.candidates = requests.offsets, requests.candidates
        self.request = np.repeat(np.arange(len(requests)), self.candidates)

    def of_requests(self, chosen: Array) -> Array:
        """Return the rows of requests, in that order."""
        runs = [np.arange(self.offsets[each], self.offsets[each + 1]) for each in chosen]
        return np.concatenate([*runs, np.empty(0, dtype=np.int64)])

    def gather(self, rows: Array, total: int) -> Batch:
        """Return rows as a batch on the CPU; ``total`` is what all processes have in the step."""
        import torch

        request = self.request[rows]
        # Rows of one request stand together only where requests are whole.
        numbers = np.cumsum(np.diff(request, prepend=-1) != 0) - 1
        place, which = torch.from_numpy(rows), torch.from_numpy(request)
        columns = {name: x[which] for name, x in self.user.items()}
        columns |= {name: x[place] for name, x in self.items.items()}
        return Batch(columns, self.labels[place], torch.from_numpy(numbers), total)


class Batches:
    """The minibatches of each epoch of a log in memory.

    Args:
        log: Requests with labels.
        batch_rows: Rows of one step, in all processes together; of whole requests, about as many.
        whole_requests: Whether a request's rows stay together.
        seed: Of the order; each epoch has an order of its own, which follows from both.
        share: Of this process.
        device: Where the batches go.
    """

    def __init__(
        self,
        log: RankingLog,
        batch_rows: int,
        *,
        whole_requests: bool,
        seed: int,
        share: Share,
        device: str,
    ) -> None:
        self.log, self.rows = log, Rows(log.requests)
        self.share, self.seed, self.device = share, seed, device
        self.whole_requests, self.batch_rows = whole_requests, batch_rows

    def __len__(self) -> int:
        if self.whole_requests:
            return len(self._cuts(self._order(0)))
        return math.ceil(len(self.rows.request) / self.batch_rows)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from the ``start``-th on."""
        order = self._order(number)
        if not self.whole_requests:
            for first in range(start * self.batch_rows, len(order), self.batch_rows):
                rows = order[first : first + self.batch_rows]
                mine = rows[self.share.rank :: self.share.processes]
                yield self.rows.gather(mine, len(rows)).to(self.device)
            return
        for first, last in self._cuts(order)[start:]:
            chosen = order[first:last]
            total = int(self.rows.candidates[chosen].sum())
            mine = self.rows.of_requests(chosen[self.share.rank :: self.share.processes])
            yield self.rows.gather(mine, total).to(self.device)

    def seen(self) -> dict[str, Array]:
        """Return how often each ID is in the log; see `rankers.seen`."""
        return count_ids(self.log.requests, self.log.signature)

    def state(self) -> dict[str, Any]:
        """Return what the next epochs depend on: nothing that is not known."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""

    def _order(self, epoch: int) -> Array:
        random = np.random.default_rng((self.seed, epoch))
        count = len(self.rows.candidates) if self.whole_requests else len(self.rows.request)
        return random.permutation(count)

    def _cuts(self, order: Array) -> list[tuple[int, int]]:
        """Cut requests in order so that each piece has about ``batch_rows`` rows."""
        ends = np.cumsum(self.rows.candidates[order])
        piece = (ends - 1) // self.batch_rows
        firsts = np.flatnonzero(np.diff(piece, prepend=-1))
        return list(zip(firsts.tolist(), [*firsts[1:].tolist(), len(order)], strict=True))
