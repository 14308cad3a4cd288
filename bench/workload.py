"""What is sent: a fixed set of requests, drawn once, the same bytes for the same seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workload_recipe import WorkloadRecipe
    from rankers.features import Signature
    from rankers.requests import Array


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Requests to send, over and over, in order.

    Attributes:
        name: What reports call it.
        requests: The distinct requests, without labels.
        seed: They were drawn with it.
    """

    name: str
    requests: RequestBatch
    seed: int

    def describe(self) -> dict[str, Any]:
        """Return its size and a checksum of its bytes as JSON-ready data."""
        candidates = self.requests.candidates
        return {
            "name": self.name,
            "requests": len(self.requests),
            "candidates_min": int(candidates.min()),
            "candidates_median": float(np.median(candidates)),
            "candidates_max": int(candidates.max()),
            "seed": self.seed,
            "sha256": _checksum(self.requests),
        }


def draw_workload(
    log: RequestBatch,
    *,
    candidates: int | None = None,
    distinct: int = 500,
    seed: int = 0,
    name: str | None = None,
) -> Workload:
    """Draw a workload from logged requests.

    Args:
        log: Such as a ranker's evaluation requests.
        candidates: Give every request this many candidates. It keeps its own as far as they go; the
            rest are drawn from the whole log, for the same candidate twice would be in a warm cache
            the second time. By default each keeps its own.
        distinct: How many different requests to send before they come again.
        seed: Of the draw.
        name: What reports call it; by default it says the candidates.

    Raises:
        UserError: The log is empty, or a number is below 1.
    """
    if not len(log):
        raise UserError("there are no requests to draw a workload from")
    if distinct < 1 or (candidates is not None and candidates < 1):
        raise UserError(
            f"a workload of {distinct} requests of {candidates} candidates was asked for; "
            "both must be 1 or more"
        )
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(log))[:distinct]
    if candidates is None:
        requests = log.select(chosen)
        spread = requests.candidates
        default = f"{int(spread.min())}-{int(spread.max())} candidates"
    else:
        requests = _with_candidates(log, chosen, candidates, random)
        default = f"{candidates} candidates"
    unlabelled = RequestBatch(requests.user, requests.items, requests.offsets)
    return Workload(name or default, unlabelled, seed)


def make_workload(
    recipe: WorkloadRecipe, signature: Signature | None, *, seed: int = 0
) -> Workload:
    """Make the workload of a recipe: requests made up for a signature, or recorded ones.

    Args:
        recipe: Of `bench.workload_recipe.load_recipe`.
        signature: The features of what will be measured.
        seed: Of the draw: the same seed makes the same bytes.

    Raises:
        UserError: There is no signature to make requests up for, or the recipe does not fit it.
    """
    if recipe.log is not None:
        from bench.distributions import Fixed
        from bench.request_log import load_log

        return draw_workload(
            load_log(recipe.log, signature),
            candidates=recipe.candidates.count if isinstance(recipe.candidates, Fixed) else None,
            distinct=recipe.distinct,
            seed=seed,
            name=recipe.name,
        )
    if signature is None:
        raise UserError(
            f"the target does not say its features, so workload {recipe.name!r} cannot be made up "
            "for it: give recorded requests with --requests"
        )
    from bench.synthesis import synthesize

    return Workload(recipe.name, synthesize(recipe, signature, seed=seed), seed)


def _with_candidates(
    log: RequestBatch, chosen: Array, candidates: int, random: np.random.Generator
) -> RequestBatch:
    """Give each chosen request ``candidates`` rows: its own first, the rest from the whole log."""
    rows = np.empty((len(chosen), candidates), dtype=np.int64)  # [R, N]
    for place, request in enumerate(chosen):
        start, stop = int(log.offsets[request]), int(log.offsets[request + 1])
        own = random.permutation(np.arange(start, stop))[:candidates]
        others = random.integers(0, log.rows, candidates - len(own))
        rows[place] = np.concatenate([own, others])
    return RequestBatch(
        user={name: column[chosen] for name, column in log.user.items()},
        items={name: column[rows.reshape(-1)] for name, column in log.items.items()},
        offsets=np.arange(len(chosen) + 1, dtype=np.int64) * candidates,
    )


def _checksum(batch: RequestBatch) -> str:
    """Return the SHA-256 of all columns: two runs that agree in it sent the same bytes."""
    digest = hashlib.sha256(batch.offsets.astype("<i8").tobytes())
    for name, column in _columns(batch):
        digest.update(f"{name} {column.dtype.str} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _columns(batch: RequestBatch) -> Iterator[tuple[str, Array]]:
    for side, columns in (("user", batch.user), ("items", batch.items)):
        for name in sorted(columns):
            yield f"{side}/{name}", columns[name]
