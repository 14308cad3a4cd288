"""Recipes: TOML files that name the stages and the limits of the gates."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from optimize.branches import Branch, MeasureOptions, parse_branches
from optimize.stages import Stage, make_stage
from rankers.errors import UserError, nearest

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class ParityLimits:
    """How far scores may be from the original's.

    Attributes:
        max_abs: The largest absolute difference of any score.
        mean_abs: The mean absolute difference.
        candidates: The numbers of candidates N at which requests are compared, beside the
            evaluation requests.
    """

    max_abs: float = 1e-5
    mean_abs: float = 1e-6
    candidates: tuple[int, ...] = (1, 2, 37, 200, 700)


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """How much worse each metric may be, at the bad end of its 95 % interval.

    Attributes:
        auc: Largest loss of the area under the ROC curve.
        gauc: Largest loss of the AUC per request, weighted by candidates.
        ndcg_at_10: Largest loss of NDCG@10.
        logloss: Largest rise of the logloss.
        calibration_error: Largest rise of the expected calibration error.
        resamples: Of the paired bootstrap over requests.
    """

    auc: float = 1e-6
    gauc: float = 1e-5
    ndcg_at_10: float = 1e-4
    logloss: float = 1e-4
    calibration_error: float = 1e-4
    resamples: int = 1000


@dataclass(frozen=True, slots=True)
class StageUse:
    """A stage as a recipe uses it."""

    name: str
    stage: Stage


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to a ranker, and what it must still be able to do.

    Attributes:
        name: The file's name without ``.toml``.
        description: One line.
        stages: In order; each reads what the one before it made. Empty if there are only branches.
        branches: Ways on from there, simplest first; measuring keeps the best of those that pass.
        measure: How they are compared.
        parity: Limits of the parity gate.
        quality: Limits of the quality gate.
    """

    name: str
    description: str
    stages: tuple[StageUse, ...]
    parity: ParityLimits = field(default_factory=ParityLimits)
    quality: QualityLimits = field(default_factory=QualityLimits)
    branches: tuple[Branch, ...] = ()
    measure: MeasureOptions = field(default_factory=MeasureOptions)

    def gates_json(self) -> dict[str, Any]:
        """Return the limits of all gates as JSON-ready data."""
        return {"parity": asdict(self.parity), "quality": asdict(self.quality)}


def built_in_recipes() -> dict[str, Path]:
    """Return the recipes that come with rankserve, by name."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}


def load_recipe(spec: str) -> Recipe:
    """Load a built-in recipe by its name, or any by its path.

    Raises:
        UserError: There is no such recipe, it is no TOML, or it names an unknown stage or option.
    """
    path = Path(spec)
    if path.suffix != ".toml":
        known = built_in_recipes()
        if spec not in known:
            raise UserError(
                f"no recipe {spec!r}: it is neither built in nor a .toml file; "
                f"{nearest(spec, known)}"
            )
        path = known[spec]
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {path}: not valid TOML: {error}") from error
    try:
        return _parse(path.stem, data)
    except UserError as error:
        raise UserError(f"recipe {path}: {error}") from error


def gate_limits(gates: Any) -> tuple[ParityLimits, QualityLimits]:
    """Read the limits of the gates, from a recipe's ``gates`` table or the same as JSON.

    Raises:
        UserError: A name is unknown or a limit is not a number.
    """
    if not isinstance(gates, dict):
        raise UserError("'gates' is a table: [gates.parity], [gates.quality]")
    _only(gates, ("parity", "quality"), "[gates]")
    return (
        _limits(ParityLimits, gates.get("parity", {}), "[gates.parity]"),
        _limits(QualityLimits, gates.get("quality", {}), "[gates.quality]"),
    )


def _parse(name: str, data: dict[str, Any]) -> Recipe:
    _only(data, ("branches", "description", "gates", "measure", "stages"), "a recipe")
    parity, quality = gate_limits(data.get("gates", {}))
    uses = () if "branches" in data and "stages" not in data else _uses(data.get("stages"), "torch")
    reached = uses[-1].stage.produces if uses else "torch"
    return Recipe(
        name=name,
        description=str(data.get("description", "")),
        stages=uses,
        parity=parity,
        quality=quality,
        branches=parse_branches(data.get("branches"), lambda stages: _uses(stages, reached)),
        measure=MeasureOptions.from_json(data.get("measure", {})),
    )


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
        uses.append(StageUse(name, make_stage(name, options)))
    for use in uses:
        if use.stage.consumes != current:
            raise UserError(
                f"stage {use.name!r} reads {use.stage.consumes}, but what comes to it is {current}"
            )
        current = use.stage.produces
    return tuple(uses)


def _limits(kind: type[Any], data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise UserError(f"{where} is a table")
    _only(data, [each.name for each in fields(kind)], where)
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name == "candidates":
            if not isinstance(value, list) or not value or not all(_is_count(x) for x in value):
                raise UserError(f"{where} candidates is {value!r}; expected whole numbers from 1")
            values[name] = tuple(value)
        elif name == "resamples" and not _is_count(value):
            raise UserError(f"{where} resamples is {value!r}; expected a whole number from 1")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise UserError(f"{where} {name} is {value!r}; expected a number, 0 or more")
        else:
            values[name] = value
    return kind(**values)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _only(data: dict[str, Any], known: Any, where: str) -> None:
    for name in data:
        if name not in known:
            raise UserError(f"{where} has no {name!r}; {nearest(name, known)}")
