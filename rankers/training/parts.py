"""What a log is cut into: what is trained on, what chooses the epoch, what is judged at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.data.log import RankingLog, split_log
from rankers.errors import UserError
from rankers.training.batches import Batches
from rankers.training.calibration import calibration_sample

if TYPE_CHECKING:
    from rankers.data.shards import Piece, ShardedLog
    from rankers.requests import RequestBatch
    from rankers.training.distributed import Share
    from rankers.training.options import TrainingOptions
    from rankers.training.shard_batches import ShardBatches


@dataclass(frozen=True, slots=True)
class Parts:
    """A log, cut.

    Attributes:
        batches: What is trained on.
        rows: How many rows that is, in all processes.
        judged_on: What is judged after each epoch.
        held_out: What is judged at the end.
        calibration: A sample of what is trained on: of a log in shards, from one piece.
    """

    batches: Batches | ShardBatches
    rows: int
    judged_on: RankingLog
    held_out: RankingLog
    calibration: RequestBatch | None


def cut_log(log: RankingLog | ShardedLog, options: TrainingOptions, share: Share) -> Parts:
    """Cut a log as the options say.

    Of a log in shards whole pieces are held out, as many rows as the buffer holds at most: they are
    kept in memory, and in the checkpoint.

    Raises:
        UserError: The log is too small to cut, or a piece of it does not fit the buffer.
    """
    if isinstance(log, RankingLog):
        return _cut_in_memory(log, options, share)
    return _cut_shards(log, options, share)


def _cut_in_memory(log: RankingLog, options: TrainingOptions, share: Share) -> Parts:
    by, seed = options.split_by, options.seed
    learned, held_out = split_log(log, share=options.held_out, by=by, seed=seed)
    judged_on = held_out
    if options.patience is not None:
        learned, judged_on = split_log(learned, share=options.validation, by=by, seed=seed)
    batches = Batches(
        learned,
        options.batch_rows,
        whole_requests=options.loss != "pointwise",
        seed=seed,
        share=share,
        device=options.device,
    )
    calibration = calibration_sample(learned.requests, held_out.requests, seed=seed)
    return Parts(batches, learned.requests.rows, judged_on, held_out, calibration)


def _cut_shards(log: ShardedLog, options: TrainingOptions, share: Share) -> Parts:
    from rankers.training.shard_batches import ShardBatches, check_fits

    check_fits(log.pieces, options.buffer_rows)
    learned, kept = hold_out(log.pieces, options.held_out, options)
    judging = kept
    if options.patience is not None:
        learned, judging = hold_out(learned, options.validation, options)
    batches = ShardBatches(
        log,
        learned,
        options.batch_rows,
        buffer_rows=options.buffer_rows,
        whole_requests=options.loss != "pointwise",
        seed=options.seed,
        share=share,
        device=options.device,
        workers=options.workers,
    )
    held_out = log.read(kept)
    judged_on = held_out if judging is kept else log.read(judging)
    drawn = learned[int(np.random.default_rng(options.seed).integers(len(learned)))]
    calibration = calibration_sample(
        log.read([drawn]).requests, held_out.requests, seed=options.seed
    )
    rows = sum(each.rows for each in learned)
    return Parts(batches, rows, judged_on, held_out, calibration)


def hold_out(
    pieces: tuple[Piece, ...], share: float, options: TrainingOptions
) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Split pieces into those to train on and those to hold out, each in order.

    Held out is at least one piece, then as many as come nearest to ``share`` of the rows without
    exceeding the buffer.

    Raises:
        UserError: There is one piece only, or ``options.split_by`` is unknown.
    """
    if len(pieces) < 2:
        raise UserError(
            f"the shards hold {len(pieces)} row group(s) to train on and to hold out; at least 2 "
            "are needed, 3 with patience: write smaller row groups"
        )
    if options.split_by not in {"time", "request"}:
        raise UserError(f"cannot split by {options.split_by!r}; split by 'time' or 'request'")
    order = np.arange(len(pieces))
    if options.split_by == "request":
        order = np.random.default_rng(options.seed).permutation(order)
    wanted = share * sum(each.rows for each in pieces)
    held: list[int] = []
    rows = 0
    for place in order[:0:-1]:  # from the last; the first is always trained on
        more = pieces[place].rows
        if held and (rows + more / 2 > wanted or rows + more > options.buffer_rows):
            break
        held.append(int(place))
        rows += more
    chosen = set(held)
    return (
        tuple(each for place, each in enumerate(pieces) if place not in chosen),
        tuple(each for place, each in enumerate(pieces) if place in chosen),
    )
