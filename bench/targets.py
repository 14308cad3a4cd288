"""What can be measured: an artifact, a ranker as it was trained, a served model, any function.

The rest of the bench calls a `Target` and knows no more of it. `optimize`, `client` and torch are
imported only when such a target is opened.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rankers.errors import UserError, in_one_line
from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from rankers.features import Signature
    from rankers.ranker import Ranker
    from rankers.requests import Array, Columns, RequestBatch

_TARGET_ATTRIBUTES = ("name", "instances", "prepare", "describe", "close")


class Target(Protocol):
    """Something that scores requests.

    Attributes:
        name: What reports call it.
        instances: How many calls it works on at once; others queue before it. None for a target
            that queues by itself, such as a server.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - said above

    @property
    def instances(self) -> int | None: ...  # noqa: D102 - said above

    def prepare(self, request: RankingRequest) -> Any:
        """Do all that a caller does before the clock starts."""
        ...

    def __call__(self, prepared: Any) -> Array:
        """Score one prepared request: float32 ``[N]``. This is what is timed."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return JSON-ready data that tells it from others: ``name``, ``kind``, ``device``, …."""
        ...

    def close(self) -> None:
        """Let go of connections and memory."""
        ...


@dataclass(frozen=True, slots=True)
class CallableTarget:
    """A Python function that scores a request: bench your own stack with it.

    Attributes:
        name: What reports call it.
        function: Takes a `RankingRequest`, or what ``preparation`` made of it; returns ``[N]``
            scores.
        preparation: Done before the clock starts; by default nothing.
        device: ``cpu`` or ``cuda``: the section of the report.
        instances: See `Target`.
    """

    name: str
    function: Callable[[Any], Array]
    preparation: Callable[[RankingRequest], Any] | None = None
    device: str = "cpu"
    instances: int | None = 1

    def prepare(self, request: RankingRequest) -> Any:
        """Apply ``preparation``."""
        return request if self.preparation is None else self.preparation(request)

    def __call__(self, prepared: Any) -> Array:
        """Call the function."""
        return self.function(prepared)

    def describe(self) -> dict[str, Any]:
        """Say that it is a function."""
        return {
            "name": self.name,
            "kind": "callable",
            "device": self.device,
            "instances": self.instances,
        }

    def close(self) -> None:
        """There is nothing to let go of."""


@dataclass(frozen=True, slots=True, eq=False)
class InProcessTarget:
    """An opened artifact or module in this process, one call at a time.

    Attributes:
        name: What reports call it.
        predictor: Scores columns.
        description: What it is.
        evaluation: The requests that came with it, if any.
        instances: See `Target`.
        signature: Its features, to make requests up for.
        columns_of: Makes a request the columns that the predictor takes; by default flat ones,
            with the user repeated for each candidate.
    """

    name: str
    predictor: Callable[[Columns], Array]
    description: dict[str, Any]
    evaluation: RequestBatch | None = None
    instances: int | None = 1
    signature: Signature | None = None
    columns_of: Callable[[RankingRequest], Columns] = RankingRequest.flat

    def prepare(self, request: RankingRequest) -> Columns:
        """Return the predictor's columns, each contiguous."""
        return {name: np.ascontiguousarray(x) for name, x in self.columns_of(request).items()}

    def __call__(self, prepared: Columns) -> Array:
        """Score the columns. On a GPU this takes the copies there and back."""
        return self.predictor(prepared)

    def describe(self) -> dict[str, Any]:
        """Say what was opened, and how."""
        return {"name": self.name, "instances": self.instances} | self.description

    def close(self) -> None:
        """Memory is let go of with the object."""


def open_target(spec: str, *, device: str = "cpu", threads: int | None = None) -> Target:
    """Open a target by what a person would call it.

    Args:
        spec: An artifact's folder, or a run's; ``SCHEME://host:port/model`` with a scheme of
            `bench.transports.TRANSPORTS`; ``callable:file.py:function``, your own stack
            (`callable_target`); ``kept:FOLDER``, an artifact that keeps users' states, by a state
            that is there already; or a ranker as `rankers.ranker.load_ranker` takes it
            (``file.py:function``, a checkpoint folder, a name in the zoo), measured as it was
            trained, in eager torch.
        device: ``cpu`` or ``cuda``. For a served model, where the server runs it.
        threads: Of one call in process; by default one for each physical core.

    Raises:
        UserError: There is no such target.
    """
    if "://" in spec:
        from bench.served import open_served

        return open_served(spec, device=device)
    if spec.startswith("callable:"):
        return callable_target(spec.removeprefix("callable:"), device=device)
    if spec.startswith("kept:"):
        from bench.kept_state import open_kept_state

        return open_kept_state(Path(spec.removeprefix("kept:")), device=device, threads=threads)
    from optimize.artifact import MANIFEST
    from optimize.run import RUN_FILE

    if any((Path(spec) / name).is_file() for name in (MANIFEST, RUN_FILE)):
        return open_artifact_target(Path(spec), device=device, threads=threads)
    from rankers.ranker import load_ranker

    return ranker_target(load_ranker(spec), device=device, threads=threads)


def open_artifact_target(
    folder: Path, *, device: str = "cpu", threads: int | None = None, name: str | None = None
) -> InProcessTarget:
    """Open an artifact, or the one a run chose, in the runtime of its format, in this process.

    Raises:
        UserError: The artifact is damaged, or its runtime cannot open it.
    """
    from optimize.run import find_artifact
    from optimize.runtimes import default_threads, open_predictor

    artifact = find_artifact(folder)
    manifest = artifact.manifest
    threads = threads or default_threads(artifact)
    layout = "" if manifest.layout == "flat" else f" {manifest.layout.replace('_', '-')}"
    description = {
        "kind": "artifact",
        "device": device,
        "threads": threads,
        "ranker": manifest.name,
        "format": manifest.format,
        "precision": manifest.precision,
        "layout": manifest.layout,
        "stages": [step.stage for step in manifest.lineage],
        "bytes": artifact.model_bytes,
        "key": artifact.key,
    }
    return InProcessTarget(
        name=name or f"{manifest.name} {manifest.format} {manifest.precision}{layout}",
        predictor=open_predictor(artifact, device=device, threads=threads),
        description=description,
        signature=manifest.signature,
        columns_of=manifest.columns_of,
    )


def ranker_target(
    ranker: Ranker, *, device: str = "cpu", threads: int | None = None, name: str | None = None
) -> InProcessTarget:
    """Make a target of a ranker as it was trained: torch, operator by operator.

    Raises:
        UserError: The device is ``cuda`` and there is none.
    """
    import copy

    import torch

    from optimize.runtimes import physical_cores

    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} was asked for, but torch sees no GPU here")
    threads = threads or physical_cores()
    if device == "cpu":
        torch.set_num_threads(threads)
    # A copy: neither its mode nor its device may change under the ranker's owner. `Ranker.score`
    # would walk all modules twice in each call to set and restore the mode.
    module = copy.deepcopy(ranker.module).eval().to(device)

    def predict(columns: Columns) -> Array:
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(x).to(device) for name, x in columns.items()}
            # To NumPy last: on a GPU that waits for the kernels and copies the scores back.
            scores: Array = module(**inputs).reshape(-1).float().cpu().numpy()
        return scores

    return InProcessTarget(
        name=name or f"{ranker.name} torch eager",
        predictor=predict,
        description={
            "kind": "ranker",
            "device": device,
            "threads": threads,
            "ranker": ranker.name,
        },
        evaluation=ranker.evaluation,
        signature=ranker.signature,
    )


def callable_target(spec: str, *, device: str = "cpu") -> Target:
    """Make a target of somebody's function.

    Args:
        spec: ``file.py:function`` or ``package.module:function``. A function with a parameter
            scores: it takes a `RankingRequest` and returns ``[N]`` scores. One without makes a
            target: it returns a `CallableTarget`, or anything else that is a `Target`.
        device: Where it runs.

    Raises:
        UserError: It cannot be imported, or makes no target.
    """
    from rankers.ranker import load_function

    function = load_function(spec)
    required = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.default is each.empty and each.kind not in {each.VAR_KEYWORD, each.VAR_POSITIONAL}
    ]
    if required:
        return CallableTarget(spec.rpartition(":")[2], function, device=device)
    try:
        made = function()
    except Exception as error:
        raise UserError(f"{spec}: {in_one_line(error)}") from error
    if not callable(made) or not all(hasattr(made, each) for each in _TARGET_ATTRIBUTES):
        raise UserError(
            f"{spec}: returned {type(made).__name__}; a function without parameters returns a "
            "bench.targets.CallableTarget, and one that scores takes a request"
        )
    target: Target = made
    return target
