"""The rankers of bench/user_once_rankers.py as one would split them by hand, to compare with.

``callable:bench/user_once_by_hand.py:NAME`` has the weights of the ranker called NAME there. Each
takes one user and N candidates, computes the user's part once, and multiplies user with item as an
engineer with a day for it would write it; it is exported and run as the automatic one is. What the
automatic rewrite leaves to be gained, or gains beyond it, shows in `bench compare`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench import user_once_rankers
from bench.targets import CallableTarget

if TYPE_CHECKING:
    from rankers.ranker import Ranker
    from rankers.requests import Array, Columns, RankingRequest


class _ByHand(nn.Module):
    """A ranker's module, called with its user's columns ``[1, …]`` and its items' ``[N, …]``."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.whole = whole


class _History(_ByHand):
    def forward(self, user_id: Tensor, history: Tensor, item_id: Tensor) -> Tensor:
        whole = self.whole
        h = whole.encoder(whole.item(history) + whole.position)  # [1, L, D]
        t = whole.item(item_id)  # [N, D]
        first, _, second = whole.attention
        hidden = functional.relu(_pairs(first, h, t))  # [N, L, 80]
        weights = functional.linear(hidden, second.weight).squeeze(2) + second.bias  # [N, L]
        weights = weights.masked_fill(history == 0, 0.0)
        found = torch.matmul(weights.unsqueeze(1), h).squeeze(1)  # [N, D]
        last = functional.relu(_side_by_side(whole.head[0], found, t, whole.user(user_id)))
        return torch.sigmoid(whole.head[2](last).squeeze(1))


class _Din(_ByHand):
    def forward(self, **columns: Tensor) -> Tensor:
        whole, events = self.whole, self.whole.events
        ((name, target),) = events.histories.items()
        table = events.targets.tables[target]
        h, t = table(columns[name]), table(columns[target])  # [1, L, D], [N, D]
        first, dice, second, other_dice, last = whole.attention
        hidden = _dice(dice, _pairs(first, h, t))  # [N, L, 80]
        hidden = _dice(other_dice, second(hidden))
        weights = functional.linear(hidden, last.weight).squeeze(2) + last.bias  # [N, L]
        weights = weights * (columns[name] != events.padding[name]).to(h.dtype)
        interest = torch.matmul(weights.unsqueeze(1), h).squeeze(1)  # [N, D]
        others = [each(columns[feature]) for feature, each in events.others.tables.items()]
        layer, activation, *rest = whole.deep
        score: Tensor = _dice(activation, _side_by_side(layer, interest, t, *others))
        for each in rest:
            score = each(score) if isinstance(each, nn.Linear) else _dice(each, score)
        return torch.sigmoid(score.squeeze(1))


class _Dlrm(_ByHand):
    def forward(self, **columns: Tensor) -> Tensor:
        whole = self.whole
        dense = torch.cat([columns[name] for name in whole.dense], dim=1)
        bottom = whole.bottom(dense)  # [1, D]
        tables = whole.embedding.tables
        # The features are in this order: first the user's.
        user = torch.stack(
            [bottom, *(tables[name](x) for name, x in columns.items() if name.startswith("user"))],
            dim=1,
        )  # [1, U, D]
        item = torch.stack(
            [tables[name](x) for name, x in columns.items() if name.startswith("item")], dim=1
        )  # [N, I, D]
        lower, upper = whole.lower, whole.upper
        owns, others = upper < user.shape[1], lower >= user.shape[1]  # upper < lower
        both = owns & others
        among_users, among_items = ~others, ~owns
        own = torch.matmul(user, user.transpose(1, 2))[:, lower[among_users], upper[among_users]]
        mixed = torch.matmul(item, user.transpose(1, 2))  # [N, I, U]: pairs in the weights' order
        between = torch.matmul(item, item.transpose(1, 2))[
            :, lower[among_items] - user.shape[1], upper[among_items] - user.shape[1]
        ]
        layer, *rest = whole.top
        width = bottom.shape[1]
        chosen = layer.weight[:, width:]
        place = (lower - user.shape[1])[both] * user.shape[1] + upper[both]
        for_mixed = chosen[:, both][:, torch.argsort(place)]
        hidden = (
            functional.linear(bottom, layer.weight[:, :width], layer.bias)
            + functional.linear(own, chosen[:, among_users])
        ) + functional.linear(
            torch.cat([mixed.flatten(1), between], dim=1),
            torch.cat([for_mixed, chosen[:, among_items]], dim=1),
        )
        for each in rest:
            hidden = each(hidden)
        return torch.sigmoid(hidden.squeeze(1))


def _pairs(layer: nn.Linear, h: Tensor, t: Tensor) -> Tensor:
    """Return ``layer(cat[h, t, h - t, h * t])``, ``[N, L, out]``, of h ``[1, L, D]`` and t."""
    for_h, for_t, for_difference, for_product = layer.weight.chunk(4, dim=1)
    own = t.unsqueeze(2) * for_product.T + (for_h + for_difference).T  # [N, D, out]
    shift = functional.linear(t, for_t - for_difference, layer.bias)  # [N, out]
    return torch.matmul(h, own) + shift.unsqueeze(1)


def _side_by_side(layer: nn.Linear, *parts: Tensor) -> Tensor:
    """Return ``layer(cat(parts))``, of parts of one row and of N, each kind multiplied once."""
    widths = [each.shape[1] for each in parts]
    weights = torch.split(layer.weight, widths, dim=1)
    once = [n for n, each in enumerate(parts) if each.shape[0] == 1]
    each_time = [n for n in range(len(parts)) if n not in once]
    own = functional.linear(
        torch.cat([parts[n] for n in once], dim=1),
        torch.cat([weights[n] for n in once], dim=1),
        layer.bias,
    )
    other = functional.linear(
        torch.cat([parts[n] for n in each_time], dim=1),
        torch.cat([weights[n] for n in each_time], dim=1),
    )
    return own + other


def _dice(dice: Any, x: Tensor) -> Tensor:
    """Return ``dice(x)`` in evaluation: ``x (a + p (1 - a))``."""
    scale = (dice.norm.running_var + dice.norm.eps).rsqrt()
    p = torch.sigmoid(x * scale - dice.norm.running_mean * scale)
    gated: Tensor = x * (dice.alpha + p * (1 - dice.alpha))
    return gated


def history() -> CallableTarget:
    """Return the history ranker, split."""
    return _target(user_once_rankers.history(), _History)


def din() -> CallableTarget:
    """Return the DIN, split."""
    return _target(user_once_rankers.din(), _Din)


def dlrm() -> CallableTarget:
    """Return the DLRM, split."""
    return _target(user_once_rankers.dlrm(), _Dlrm)


def _target(ranker: Ranker, kind: type[_ByHand]) -> CallableTarget:
    from optimize.artifact import Artifact, Manifest
    from optimize.runtimes import open_predictor

    names = [each.name for each in ranker.signature.features]

    def columns_of(request: RankingRequest) -> Columns:
        both = request.user | request.items
        return {name: np.ascontiguousarray(both[name]) for name in names}

    manifest = Manifest(ranker.name, "onnx", "model.onnx", ranker.signature, layout="user_once")
    with tempfile.TemporaryDirectory() as folder:
        artifact = Artifact(Path(folder), manifest)
        _export(kind(ranker.module).eval(), columns_of(ranker.evaluation[0]), artifact)
        predictor = open_predictor(artifact)
    for request in (ranker.evaluation[0], ranker.evaluation[1]):
        scores: Array = predictor(columns_of(request))
        np.testing.assert_allclose(scores, ranker.score(request.flat()), atol=1e-5)
    return CallableTarget(f"{ranker.name} split by hand", predictor, columns_of)


def _export(module: nn.Module, columns: Columns, artifact: Any) -> None:
    users = {each.name for each in artifact.manifest.signature.user}
    rows = torch.export.Dim("rows", min=2)
    tensors = {name: torch.from_numpy(x) for name, x in columns.items()}
    shapes: dict[str, Any] = {name: None if name in users else {0: rows} for name in columns}
    with torch.no_grad():
        program = torch.export.export(
            _Named(module, tuple(columns)), tuple(tensors.values()),
            dynamic_shapes=(tuple(shapes.values()),),
        )  # fmt: skip
        exported = torch.onnx.export(
            program,
            input_names=list(columns),
            output_names=["score"],
            opset_version=20,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    assert exported is not None  # noqa: S101 - given by every export to memory
    exported.save(str(artifact.model_path))


class _Named(nn.Module):
    """Takes columns by position, as the exporter follows no keywords."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *columns: Tensor) -> Tensor:
        scores: Tensor = self.module(**dict(zip(self.names, columns, strict=True)))
        return scores
