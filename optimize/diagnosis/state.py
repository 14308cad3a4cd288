"""What scoring changes in a module, and scoring without that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optimize.diagnosis.finding import Finding, Place

if TYPE_CHECKING:
    from torch import Tensor

    from rankers.ranker import Ranker
    from rankers.requests import Array, Columns


@dataclass(frozen=True)
class StillScorer:
    """Scores with known random numbers, and puts back the buffers that scoring changes.

    So that an experiment sees what it changed itself, and nothing else.
    """

    ranker: Ranker
    changing: dict[str, Tensor]

    def __call__(self, columns: Columns, seed: int = 0) -> Array:
        """Score flat rows; float32 ``[rows]``."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            scores = self.ranker.score(columns)
        for name, value in self.changing.items():
            path, _, leaf = name.rpartition(".")
            setattr(self.ranker.module.get_submodule(path), leaf, value.clone())
        return scores


def watch_state(ranker: Ranker, columns: Columns) -> tuple[StillScorer, list[Finding]]:
    """Score rows once and find the buffers and parameters that this changes.

    Returns:
        A scorer that puts the buffers back, and a finding for each submodule that owns some.
    """
    module = ranker.module
    before = {name: x.detach().clone() for name, x in module.named_buffers()}
    versions = {name: _version(x) for name, x in module.named_parameters()}
    StillScorer(ranker, {})(columns)
    after = dict(module.named_buffers())
    changing = {name: x for name, x in before.items() if not _same(x, after.get(name))}
    names = [*changing]
    names += [name for name, x in module.named_parameters() if versions.get(name) != _version(x)]
    owners: dict[str, list[str]] = {}
    for name in names:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    still = StillScorer(ranker, changing)
    still(columns)  # puts them back
    return still, [_changed(owner, owned) for owner, owned in owners.items()]


def _changed(owner: str, names: list[str]) -> Finding:
    return Finding(
        "state-changes",
        f"scoring changes {', '.join(names)}: what is served would not, or would depend on the "
        "requests before",
        "write to it only in training (`if self.training:`); an artifact keeps no state",
        place=Place(owner),
    )


def _version(parameter: Tensor) -> tuple[int, int]:
    """Return what a write to a parameter changes: cheaper than a copy of all tables."""
    return parameter.data_ptr(), parameter._version  # noqa: SLF001 - torch has no other name for it


def _same(one: Tensor, other: Tensor | None) -> bool:
    import torch

    return other is not None and one.shape == other.shape and torch.equal(one, other)
