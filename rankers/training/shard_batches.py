"""Minibatches of a log that does not fit in memory: shards, shuffled through a buffer.

Each process has pieces of its own, of about as many rows as any other's. In each epoch they come in
drawn order, as many at once as the buffer holds; what is in the buffer is drawn in drawn order too.
All of it follows from the seed, the epoch and the pieces' sizes, which are known before anything is
read: a training that goes on reads nothing before the place where it stood, except to count IDs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.data.log import join_logs
from rankers.data.shards import read_piece
from rankers.errors import UserError
from rankers.seen import count_ids
from rankers.training.batches import Batch, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor, Future

    from rankers.data.log import RankingLog
    from rankers.data.shards import Piece, ShardedLog
    from rankers.requests import Array
    from rankers.training.distributed import Share


class ShardBatches:
    """The minibatches of each epoch of a log in shards.

    Args:
        log: Where the pieces are from.
        pieces: What to train on.
        batch_rows: Rows of one step, in all processes together; of whole requests, about as many.
        buffer_rows: The most rows that this process holds at once to draw from.
        whole_requests: Whether a request's rows stay together.
        seed: Of the order.
        share: Of this process.
        device: Where the batches go.
        workers: Processes that read ahead; 0 reads in this one. They hold up to as much again.

    Raises:
        UserError: A piece does not fit the buffer, or there are fewer pieces than processes.
    """

    def __init__(
        self,
        log: ShardedLog,
        pieces: Sequence[Piece],
        batch_rows: int,
        *,
        buffer_rows: int,
        whole_requests: bool,
        seed: int,
        share: Share,
        device: str,
        workers: int = 0,
    ) -> None:
        check_fits(pieces, buffer_rows)
        if len(pieces) < share.processes:
            raise UserError(
                f"{share.processes} processes, but only {len(pieces)} row group(s) to train on; "
                "write smaller row groups, or train in fewer processes"
            )
        self.log, self.share, self.seed, self.device = log, share, seed, device
        self.buffer_rows, self.whole_requests, self.workers = buffer_rows, whole_requests, workers
        parts = share_out(pieces, share.processes)
        self.pieces = parts[share.rank]
        self.units = [sum(map(self._units, each)) for each in parts]  # of each process
        longest = max(sum(each.rows for each in part) for part in parts)
        steps = math.ceil(longest * share.processes / batch_rows)
        self.steps = max(1, min(steps, *self.units))
        self.counts: dict[str, Array] | None = None

    def __len__(self) -> int:
        return self.steps

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from the ``start``-th on."""
        counting = number == 0 and self.counts is None
        counts: dict[str, Array] = {}
        step, position = start, self._first_of(start)
        blocks = self._blocks(number)
        ends = np.cumsum([sum(map(self._units, each)) for each in blocks]).tolist()
        kept = [place for place, end in enumerate(ends) if counting or end > position]
        reading = self._read([blocks[place] for place in kept])
        parts: list[Batch] = []
        for place in kept:
            # Nothing may hold on to one block while the next is read: no zip, and see below.
            log = next(reading)
            if counting:
                for name, found in count_ids(log.requests, log.signature).items():
                    counts[name] = counts.get(name, 0) + found
            rows, end = Rows(log.requests), ends[place]
            first = ends[place - 1] if place else 0
            seeds = (self.seed, number, self.share.rank, place)
            order = np.random.default_rng(seeds).permutation(end - first)
            while position < end:
                stop = min(self._first_of(step + 1), end)
                chosen = order[position - first : stop - first]
                taken = rows.of_requests(chosen) if self.whole_requests else chosen
                parts.append(rows.gather(taken, len(taken)))
                position = stop
                if position == self._first_of(step + 1):
                    yield self._joined(parts, step).to(self.device)
                    parts, step = [], step + 1
            del log, rows
        if counting:
            self.counts = self._added_up(counts)

    def seen(self) -> dict[str, Array]:
        """Return how often each ID came in the first epoch, in all processes."""
        return self.counts or {}

    def state(self) -> dict[str, Any]:
        """Return what the next epochs depend on and the seed does not say."""
        import torch

        counts = self.counts
        if counts is None:
            return {}
        return {name: torch.from_numpy(found) for name, found in counts.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.counts = {name: found.numpy() for name, found in state.items()} or None

    def _units(self, piece: Piece) -> int:
        """Return how many rows, or whole requests, a piece is worth."""
        return piece.requests if self.whole_requests else piece.rows

    def _first_of(self, step: int, rank: int | None = None) -> int:
        """Return the first unit of a step: every process cuts its own into as many steps."""
        return step * self.units[self.share.rank if rank is None else rank] // self.steps

    def _blocks(self, epoch: int) -> list[list[Piece]]:
        """Return what is in the buffer at once, in the order of an epoch."""
        order = np.random.default_rng((self.seed, epoch, self.share.rank)).permutation(
            len(self.pieces)
        )
        blocks: list[list[Piece]] = []
        held = self.buffer_rows + 1
        for each in order:
            piece = self.pieces[each]
            if held + piece.rows > self.buffer_rows:
                blocks.append([])
                held = 0
            blocks[-1].append(piece)
            held += piece.rows
        return blocks

    def _read(self, blocks: Sequence[Sequence[Piece]]) -> Iterator[RankingLog]:
        """Read block after block; with workers the next one while this one is trained on."""
        if not self.workers:
            for block in blocks:
                yield self.log.read(block)
            return
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        # Not forked: this process has threads.
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            ahead = self._submit(pool, blocks[0]) if blocks else []
            for number in range(len(blocks)):
                log = join_logs([each.result() for each in ahead])
                following = blocks[number + 1] if number + 1 < len(blocks) else ()
                ahead = self._submit(pool, following)
                yield log

    def _submit(self, pool: Executor, block: Sequence[Piece]) -> list[Future[RankingLog]]:
        return [pool.submit(read_piece, self.log.form, each, seed=self.log.seed) for each in block]

    def _joined(self, parts: Sequence[Batch], step: int) -> Batch:
        """Join what one step took from several blocks."""
        import torch

        rows = sum(len(each.labels) for each in parts)
        if self.whole_requests:
            # How many rows others have is not known without asking: all processes weigh the same.
            total = rows * self.share.processes
        else:
            total = sum(
                self._first_of(step + 1, rank) - self._first_of(step, rank)
                for rank in range(self.share.processes)
            )
        if len(parts) == 1:
            only = parts[0]
            return Batch(only.columns, only.labels, only.request, total)
        numbers, before = [], 0
        for each in parts:
            numbers.append(each.request + before)
            before = int(numbers[-1].max()) + 1 if len(each.labels) else before
        return Batch(
            {name: torch.cat([x.columns[name] for x in parts]) for name in parts[0].columns},
            torch.cat([each.labels for each in parts]),
            torch.cat(numbers),
            total,
        )

    def _added_up(self, counts: dict[str, Array]) -> dict[str, Array]:
        """Add up what every process counted."""
        if self.share.processes == 1:
            return counts
        import torch
        from torch import distributed

        total = {}
        for name, found in sorted(counts.items()):
            tensor = torch.from_numpy(found).to(self.device)
            distributed.all_reduce(tensor)
            total[name] = tensor.cpu().numpy()
        return total


def share_out(pieces: Sequence[Piece], processes: int) -> list[list[Piece]]:
    """Give each process pieces of about as many rows: the largest first, to who has the fewest."""
    parts: list[list[Piece]] = [[] for _ in range(processes)]
    rows = [0] * processes
    for place in sorted(range(len(pieces)), key=lambda each: (-pieces[each].rows, each)):
        fewest = min(range(processes), key=lambda each: (rows[each], each))
        parts[fewest].append(pieces[place])
        rows[fewest] += pieces[place].rows
    return parts


def check_fits(pieces: Sequence[Piece], buffer_rows: int) -> None:
    """Check that each piece fits the buffer.

    Raises:
        UserError: One does not; the message names it.
    """
    for each in pieces:
        if each.rows > buffer_rows:
            raise UserError(
                f"{each.path}: row group {each.groups[0]} holds {each.rows:,} rows with the end of "
                f"its last request, more than the buffer's {buffer_rows:,}; write smaller row "
                "groups, or raise --buffer-rows"
            )
