"""A joint choice as a recipe that ``optimize run`` takes: the same widths, the same layers in int8.

Layers are named as they are in the graph that the recipe's own stages export. What stands in that
graph and was not measured stays as it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optimize.build import run_stage
from optimize.int8.layers import opened_model
from optimize.recipe import load_recipe
from optimize.sensitivity.onnx_layers import layers_in
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optimize.artifact import Artifact
    from optimize.sensitivity.budget import Budget
    from optimize.sensitivity.greedy import MixedPrecision
    from optimize.sensitivity.layers import Layer
    from optimize.sensitivity.loss import Loss

# Scores may move so many times as far as they did when the choice was measured: of other requests
# the largest change is larger, and what is wrong is far larger.
_ROOM = 4
_LEAST_MOVE = 1e-4
_QUALITY = {
    "auc": 5e-4,
    "gauc": 1e-3,
    "ndcg_at_10": 2e-3,
    "logloss": 1e-3,
    "calibration_error": 2e-3,
}


def write_recipe(
    choice: MixedPrecision, captured: Artifact, layers: Sequence[Layer], store: Path, path: Path
) -> None:
    """Write a choice as a recipe.

    Args:
        choice: What was chosen.
        captured: The ranker, which is taken as far as the exported graph to see what layers are
            called in it.
        layers: Of its program.
        store: Keeps what is made on the way.
        path: Of the recipe, a ``.toml`` file.

    Raises:
        UserError: The ranker cannot be exported.
    """
    stages = _stages(choice, captured, layers, store)
    text = _text(choice, captured.manifest.name, stages)
    write_atomically(path, text)
    load_recipe(str(path))  # it reads what it wrote, or says here what is wrong


def _stages(
    choice: MixedPrecision, captured: Artifact, layers: Sequence[Layer], store: Path
) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = []
    if choice.widths:
        stages.append({"use": "quantize_tables", "widths": choice.widths})
    stages += [{"use": "user_once"}, {"use": "export_onnx"}]
    if choice.layers:
        stages.append(
            {"use": "quantize_dynamic"} | _exclude(choice, captured, layers, store, stages)
        )
    return [*stages, {"use": "optimize_onnx", "level": "extended"}]


def _exclude(
    choice: MixedPrecision,
    captured: Artifact,
    layers: Sequence[Layer],
    store: Path,
    before: Sequence[dict[str, Any]],
) -> dict[str, str]:
    """Name the layers of the exported graph that were not chosen."""
    made = captured
    for each in before:
        options = dict(each)
        made = run_stage(options.pop("use"), options, made, store)
    with opened_model(made) as (_, model):
        found = layers_in(model, layers)
    names = [each.name for each, name in found if name not in choice.layers]
    return {"exclude": ", ".join(names)} if names else {}


def _text(choice: MixedPrecision, ranker: str, stages: Sequence[dict[str, Any]]) -> str:
    loss = choice.loss
    lines = [
        "# Written by `python -m optimize sensitivity`; measured on calibration requests: scores",
        f"# changed by {loss.score_change:.2%} of their spread with all of it at once.",
        f"description = {_value(f'mixed precision of {ranker}, chosen {choice}')}",
        "",
    ]
    for each in stages:
        lines += ["[[stages]]", *(f"{name} = {_value(x)}" for name, x in each.items()), ""]
    lines += ["[gates.parity]", *(f"{name} = {_value(x)}" for name, x in _parity(loss).items()), ""]
    lines += ["[gates.quality]"]
    also = {}
    for name, limit in (_QUALITY | _held(choice.budget)).items():
        if name in _QUALITY:
            lines.append(f"{name} = {_value(limit)}")
        else:
            also[name] = limit
    if also:
        lines.append(f"also = {_value(also)}")
    return "\n".join(lines) + "\n"


def _parity(loss: Loss) -> dict[str, Any]:
    return {
        "max_abs": float(f"{max(_LEAST_MOVE, _ROOM * loss.largest_change):.2g}"),
        "mean_abs": float(f"{max(_LEAST_MOVE, _ROOM * loss.mean_change):.2g}"),
        "candidates": [1, 2, 37, 200, 700],
    }


def _held(budget: Budget) -> dict[str, float]:
    return {} if budget.metric is None else {budget.metric: budget.limit}


def _value(value: Any) -> str:
    """Return a value as TOML writes it; its strings are JSON's where JSON escapes all but ASCII."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(x)} = {_value(y)}" for x, y in value.items()) + " }"
    return json.dumps(value)
