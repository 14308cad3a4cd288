"""A joint choice as a recipe that ``optimize run`` takes: the same widths, the same layers in int8.

Layers are named as they are in the graph that the recipe's own stages export. What stands in that
graph and was not measured stays as it is.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from optimize.build import run_stage
from optimize.int8.layers import opened_model
from optimize.recipe import load_recipe
from optimize.sensitivity.onnx_layers import layers_in
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optimize.artifact import Artifact
    from optimize.gate_limits import ParityLimits, QualityLimits
    from optimize.sensitivity.budget import Budget
    from optimize.sensitivity.greedy import MixedPrecision
    from optimize.sensitivity.layers import Layer
    from optimize.sensitivity.loss import Loss

# Its limits are the written recipe's: what is written makes a ranker small, and is judged as that.
_LIMITS_OF = "cpu-small"
# Scores may move so many times as far as they did when the choice was measured, if that is further
# than the limits: of other requests the largest change is larger, and what is wrong is far larger.
_ROOM = 4


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
        lines += ["[[stages]]", *_assigned(each), ""]
    gates = load_recipe(_LIMITS_OF).gates
    lines += ["[gates.parity]", *_assigned(_parity(loss, gates.parity)), ""]
    lines += ["[gates.quality]", *_assigned(_quality(choice.budget, gates.quality))]
    return "\n".join(lines) + "\n"


def _parity(loss: Loss, usual: ParityLimits) -> dict[str, Any]:
    return {
        "max_abs": max(usual.max_abs, float(f"{_ROOM * loss.largest_change:.2g}")),
        "mean_abs": max(usual.mean_abs, float(f"{_ROOM * loss.mean_change:.2g}")),
        "candidates": list(usual.candidates),
    }


def _quality(budget: Budget, usual: QualityLimits) -> dict[str, Any]:
    """Return the usual limits, with the budget's own in place of its metric's."""
    limits = usual.by_metric | ({} if budget.metric is None else {budget.metric: budget.limit})
    named = {each.name for each in fields(usual)}
    also = {name: limit for name, limit in limits.items() if name not in named}
    found: dict[str, Any] = {name: x for name, x in limits.items() if name in named}
    return found | ({"also": also} if also else {})


def _assigned(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_value(x)}" for name, x in values.items()]


def _value(value: Any) -> str:
    """Return a value as TOML writes it; its strings are JSON's where JSON escapes all but ASCII."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(x)} = {_value(y)}" for x, y in value.items()) + " }"
    return json.dumps(value)
