"""What can be measured: an artifact, a ranker as it was trained, a served model, any function.

The rest of the bench calls a `Target` and knows no more of it. `optimize`, `client` and torch are
imported only when such a target is opened.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rankers.features import Signature
    from rankers.ranker import Ranker
    from rankers.requests import Array, Columns, RankingRequest, RequestBatch

# Of one request to a server. The client's own default would cut the tail off and call it an error.
_PATIENCE_S = 30.0


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
    """An opened artifact or module in this process: takes flat columns, one call at a time.

    Attributes:
        name: What reports call it.
        predictor: Scores flat columns.
        description: What it is.
        evaluation: The requests that came with it, if any.
        instances: See `Target`.
        signature: Its features, to make requests up for.
    """

    name: str
    predictor: Callable[[Columns], Array]
    description: dict[str, Any]
    evaluation: RequestBatch | None = None
    instances: int | None = 1
    signature: Signature | None = None

    def prepare(self, request: RankingRequest) -> Columns:
        """Repeat the user for each candidate: contiguous columns ``[N, …]``."""
        return {name: np.ascontiguousarray(x) for name, x in request.flat().items()}

    def __call__(self, prepared: Columns) -> Array:
        """Score the columns. On a GPU this takes the copies there and back."""
        return self.predictor(prepared)

    def describe(self) -> dict[str, Any]:
        """Say what was opened, and how."""
        return {"name": self.name, "instances": self.instances} | self.description

    def close(self) -> None:
        """Memory is let go of with the object."""


@dataclass(frozen=True, slots=True, eq=False)
class ServedTarget:
    """A model on a Triton server, called over gRPC by our client.

    Attributes:
        name: What reports call it.
        model: The model's name on the server.
        device: Where the server runs it.
        rank: Sends a request and waits for its scores.
        connection: Holds the client open.
        instances: None: the server queues by itself.
    """

    name: str
    model: str
    device: str
    rank: Callable[[RankingRequest], Array]
    connection: ExitStack
    instances: int | None = None

    def prepare(self, request: RankingRequest) -> RankingRequest:
        """Nothing: what the client does to a request is part of what its user waits for."""
        return request

    def __call__(self, prepared: RankingRequest) -> Array:
        """Send the request and wait for its scores."""
        return self.rank(prepared)

    def describe(self) -> dict[str, Any]:
        """Say which model it is. The server's address is not what makes a result."""
        return {
            "name": self.name,
            "kind": "grpc",
            "device": self.device,
            "model": self.model,
            "instances": None,
        }

    def close(self) -> None:
        """Close the client's channels."""
        self.connection.close()


def open_target(spec: str, *, device: str = "cpu", threads: int | None = None) -> Target:
    """Open a target by what a person would call it.

    Args:
        spec: An artifact's folder, or a run's; ``grpc://host:port/model``; or a ranker as
            `rankers.ranker.load_ranker` takes it (``file.py:function``, a checkpoint folder, a name
            in the zoo), measured as it was trained, in eager torch.
        device: ``cpu`` or ``cuda``. For a served model, where the server runs it.
        threads: Of one call in process; by default one for each physical core.

    Raises:
        UserError: There is no such target.
    """
    if "://" in spec:
        return _open_served(spec, device=device)
    from optimize.artifact import MANIFEST
    from optimize.pipeline import RUN_FILE

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
    from optimize.pipeline import find_artifact
    from optimize.runtimes import open_predictor, physical_cores

    artifact = find_artifact(folder)
    manifest = artifact.manifest
    threads = threads or physical_cores()
    description = {
        "kind": "artifact",
        "device": device,
        "threads": threads,
        "ranker": manifest.name,
        "format": manifest.format,
        "precision": manifest.precision,
        "stages": [step.stage for step in manifest.lineage],
        "bytes": artifact.model_bytes,
        "key": artifact.key,
    }
    return InProcessTarget(
        name=name or f"{manifest.name} {manifest.format} {manifest.precision}",
        predictor=open_predictor(artifact, device=device, threads=threads),
        description=description,
        signature=manifest.signature,
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


def _open_served(spec: str, *, device: str) -> ServedTarget:
    parts = urlsplit(spec)
    model = parts.path.strip("/")
    if parts.scheme != "grpc" or not parts.netloc or not model or "/" in model:
        raise UserError(f"target {spec!r} is not of the form grpc://host:port/model")
    return served_target(parts.netloc, model, device=device)


def served_target(
    url: str, model: str, *, device: str = "cpu", name: str | None = None
) -> ServedTarget:
    """Connect to a model on a Triton server at ``host:port``.

    Raises:
        UserError: The server cannot be reached, or has no such model.
    """
    connection = ExitStack()
    client = connection.enter_context(
        import_module("client").RankerClient(url, model, timeout_s=_PATIENCE_S)
    )
    return ServedTarget(name or f"{model} served", model, device, client.rank, connection)
