"""Recipes: TOML files that name the stages and the limits of the gates."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from optimize.stages import Stage, make_stage
from rankers.errors import UserError, nearest

KEEP = ("if_better", "always")
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
    """A stage as a recipe uses it.

    Attributes:
        name: The stage's name.
        stage: With its options.
        keep: ``always``, or ``if_better``: only if it passes its gates, is slower than its input at
            none of the recipe's sizes, and faster at one of them or smaller.
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
        stages: In order; each reads what the one before it made.
        parity: Limits of the parity gate.
        quality: Limits of the quality gate.
        measured_at: The numbers of candidates N at which stages that are kept if better are
            measured.
    """

    name: str
    description: str
    stages: tuple[StageUse, ...]
    parity: ParityLimits = field(default_factory=ParityLimits)
    quality: QualityLimits = field(default_factory=QualityLimits)
    measured_at: tuple[int, ...] = (50,)

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
    _only(data, ("description", "gates", "measured_at", "stages"), "a recipe")
    parity, quality = gate_limits(data.get("gates", {}))
    stages = data.get("stages")
    if not isinstance(stages, list) or not stages:
        raise UserError('it needs at least one [[stages]] entry with use = "…"')
    uses = []
    for entry in stages:
        options = dict(entry)
        stage_name = options.pop("use", None)
        if not isinstance(stage_name, str):
            raise UserError('each [[stages]] entry needs use = "…", a stage\'s name')
        uses.append(_use(stage_name, options))
    _check_formats(uses)
    return Recipe(
        name=name,
        description=str(data.get("description", "")),
        stages=tuple(uses),
        parity=parity,
        quality=quality,
        measured_at=_measured_at(data.get("measured_at", [50])),
    )


def _use(name: str, options: dict[str, Any]) -> StageUse:
    keep = options.pop("keep", None)
    stage = make_stage(name, options)
    if keep is None:
        keep = getattr(stage, "keep", "always")
    if keep not in KEEP:
        raise UserError(f"stage {name!r}: keep is {keep!r}; {nearest(str(keep), KEEP)}")
    if keep == "if_better" and stage.consumes != stage.produces:
        raise UserError(
            f"stage {name!r} makes {stage.produces} of {stage.consumes}, which the next stage "
            'reads: it cannot be kept only if better; use keep = "always"'
        )
    return StageUse(name, stage, keep)


def _measured_at(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(_is_count(each) for each in value):
        raise UserError(f"measured_at is {value!r}; expected whole numbers from 1, such as [50]")
    return tuple(value)


def _check_formats(uses: list[StageUse]) -> None:
    """Each stage reads what the one before it makes; the first reads the captured program."""
    current = "torch"
    for use in uses:
        if use.stage.consumes != current:
            raise UserError(
                f"stage {use.name!r} reads {use.stage.consumes}, but what comes to it is {current}"
            )
        current = use.stage.produces


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
