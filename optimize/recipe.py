"""Recipes: TOML files that name the stages and the limits of the gates."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimize.branches import Branch, MeasureOptions, parse_branches
from optimize.gate_limits import (
    GateLimits,
    ParityLimits,
    QualityLimits,
    RankingLimits,
    SliceLimits,
    gate_limits,
    is_count,
    only,
)
from optimize.stages import Stage, make_stage
from rankers.errors import UserError, nearest

__all__ = [
    "ParityLimits",
    "QualityLimits",
    "RankingLimits",
    "Recipe",
    "SliceLimits",
    "StageUse",
    "built_in_recipes",
    "gate_limits",
    "load_recipe",
]

KEEP = ("if_better", "if_passed", "always")
RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class StageUse:
    """A stage as a recipe uses it.

    Attributes:
        name: The stage's name.
        stage: With its options.
        keep: ``always``; ``if_passed``: only if it passes its gates; ``if_better``: only if it then
            is slower than its input at none of the recipe's sizes, and faster at one of them or
            smaller.
    """

    name: str
    stage: Stage
    keep: str = "always"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to a ranker, and what it must still be able to do.

    Attributes:
        name: The file's name without ``.toml``.
        description: One line.
        stages: In order; each reads what the one before it made. Empty if there are only branches.
        branches: Ways on from there, simplest first; measuring keeps the best of those that pass.
        measure: How they are compared.
        gates: The limits of the gates.
        measured_at: The numbers of candidates N at which stages that are kept if better are
            measured.
    """

    name: str
    description: str
    stages: tuple[StageUse, ...]
    branches: tuple[Branch, ...] = ()
    measure: MeasureOptions = field(default_factory=MeasureOptions)
    gates: GateLimits = field(default_factory=GateLimits)
    measured_at: tuple[int, ...] = (50,)

    @property
    def parity(self) -> ParityLimits:
        """Limits of the parity gate."""
        return self.gates.parity

    @property
    def quality(self) -> QualityLimits:
        """Limits of the quality gate."""
        return self.gates.quality

    def gates_json(self) -> dict[str, Any]:
        """Return the limits of all gates as JSON-ready data."""
        return self.gates.to_json()


def built_in_recipes() -> dict[str, Path]:
    """Return the recipes that come with rankserve, by name."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.toml"), key=lambda path: path.stem)}


def load_recipe(spec: str) -> Recipe:
    """Load a built-in recipe by its name, or any by its path.

    What a recipe with a ``base`` says stands in place of what that one says, a value at a time;
    its branches come after that one's. Paths in a recipe are from its folder.

    Raises:
        UserError: There is no such recipe, it is no TOML, or it names an unknown stage or option.
    """
    path, data = _read(spec)
    try:
        return _parse(path.stem, data)
    except UserError as error:
        raise UserError(f"recipe {path}: {error}") from error


def _read(spec: str, above: tuple[Path, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """Return the file of a recipe, by its name or path, and what TOML gives of it and its base.

    Args:
        spec: As `load_recipe` takes it.
        above: The recipes that have it as their base.
    """
    path = _path(spec)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {path}: not valid TOML: {error}") from error
    _place_gates(data, path.parent)
    base = data.pop("base", None)
    if base is None:
        return path, data
    if not isinstance(base, str):
        raise UserError(f"recipe {path}: base is {base!r}; expected a recipe's name or path")
    if path.resolve() in above:
        raise UserError(f"recipe {path}: it is its own base")
    below = _read(_placed(base, path.parent), (*above, path.resolve()))[1]
    return path, _merged(below, data)


def _place_gates(data: dict[str, Any], folder: Path) -> None:
    """Let branches name the recipes whose gates they have wherever they are read."""
    branches = data.get("branches")
    for each in branches if isinstance(branches, list) else ():
        if isinstance(each, dict) and isinstance(each.get("gates"), str):
            each["gates"] = _placed(each["gates"], folder)


def _placed(spec: str, folder: Path) -> str:
    """Return a recipe's name as it is, and its path from ``folder`` as one from here."""
    return str(folder / spec) if Path(spec).suffix == ".toml" else spec


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return one recipe's data with another's over it; branches of both."""
    merged = dict(base)
    for name, value in own.items():
        there = base.get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            merged[name] = _merged(there, value)
        elif name == "branches" and isinstance(value, list) and isinstance(there, list):
            merged[name] = there + value
        else:
            merged[name] = value
    return merged


def _path(spec: str) -> Path:
    """Return the file of a recipe by its name or path."""
    path = Path(spec)
    if path.suffix != ".toml":
        known = built_in_recipes()
        if spec not in known:
            raise UserError(
                f"no recipe {spec!r}: it is neither built in nor a .toml file; "
                f"{nearest(spec, known)}"
            )
        path = known[spec]
    return path


def _parse(name: str, data: dict[str, Any]) -> Recipe:
    only(
        data,
        ("base", "branches", "description", "gates", "measure", "measured_at", "stages"),
        "a recipe",
    )
    uses = () if "branches" in data and "stages" not in data else _uses(data.get("stages"), "torch")
    reached = uses[-1].stage.produces if uses else "torch"
    branches = parse_branches(
        data.get("branches"), lambda stages: _uses(stages, reached), _branch_limits
    )
    measure = MeasureOptions.from_json(data.get("measure", {}))
    names = [each.name for each in branches]
    for rival in measure.rivals:
        if rival not in names:
            raise UserError(f"[measure] rivals has {rival!r}, no branch; {nearest(rival, names)}")
    return Recipe(
        name=name,
        description=str(data.get("description", "")),
        stages=uses,
        gates=gate_limits(data.get("gates", {})),
        measured_at=_measured_at(data.get("measured_at", [50])),
        branches=branches,
        measure=measure,
    )


def _branch_limits(value: Any) -> GateLimits:
    """Read what a branch is held to: a recipe whose gates they are, or a table of its own."""
    if not isinstance(value, str):
        return gate_limits(value)
    path, data = _read(value)
    try:
        return gate_limits(data.get("gates", {}))
    except UserError as error:
        raise UserError(f"recipe {path}: {error}") from error


def _uses(stages: Any, current: str) -> tuple[StageUse, ...]:
    """Read a list of stages: each reads what the one before it makes, the first ``current``."""
    if not isinstance(stages, list) or not stages:
        raise UserError('it needs at least one [[stages]] entry with use = "…"')
    uses = []
    for entry in stages:
        options = dict(entry)
        name = options.pop("use", None)
        if not isinstance(name, str):
            raise UserError('each [[stages]] entry needs use = "…", a stage\'s name')
        uses.append(_use(name, options))
    for use in uses:
        if use.stage.consumes != current:
            raise UserError(
                f"stage {use.name!r} reads {use.stage.consumes}, but what comes to it is {current}"
            )
        current = use.stage.produces
    return tuple(uses)


def _use(name: str, options: dict[str, Any]) -> StageUse:
    keep = options.pop("keep", None)
    stage = make_stage(name, options)
    if keep is None:
        keep = getattr(stage, "keep", "always")
    if keep not in KEEP:
        raise UserError(f"stage {name!r}: keep is {keep!r}; {nearest(str(keep), KEEP)}")
    if keep != "always" and stage.consumes != stage.produces:
        raise UserError(
            f"stage {name!r} makes {stage.produces} of {stage.consumes}, which the next stage "
            'reads: it cannot be dropped; use keep = "always"'
        )
    return StageUse(name, stage, keep)


def _measured_at(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(is_count(each) for each in value):
        raise UserError(f"measured_at is {value!r}; expected whole numbers from 1, such as [50]")
    return tuple(value)
