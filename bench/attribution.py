"""Where the time of served requests goes: client, network, queue, compute, joined per request.

Triton writes the moments of single requests to a file while its tracing is on. Each request here
carries an ID of its own, so that the server's moments stand beside the client's, and the slowest
requests can be told what they waited for. Tracing costs time itself: figures come from an untraced
run, their explanation from a traced one after it.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
import uuid
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.sending import apply_load
from bench.tables import Table, ms_text
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.measure import Load
    from bench.workload import Workload
    from rankers.requests import Array, RankingRequest

_PATIENCE_S = 30.0
# The server buffers what it traced and writes a file for so many; the rest once it is turned off.
_PER_FILE = 200
_FLUSH_S = 5.0


@dataclass(frozen=True, slots=True)
class Split:
    """One request's time, in microseconds.

    Attributes:
        client_us: Packing the request and reading the scores.
        network_us: Between the two, both ways: gRPC on both sides, the server's front end, and
            threads of the client that wait for a core or for Python's lock.
        queue_us: Waiting in the server for an instance, and for company in a batch.
        compute_us: In the model's instance, copies of tensors included.
    """

    client_us: float
    network_us: float
    queue_us: float
    compute_us: float

    @property
    def total_us(self) -> float:
        """From sending to the scores."""
        return self.client_us + self.network_us + self.queue_us + self.compute_us


PARTS = tuple(each.name for each in fields(Split))


def trace_requests(url: str, model: str, workload: Workload, load: Load) -> list[Split]:
    """Send a load with tracing on, and split the time of every request.

    Args:
        url: The server's gRPC ``host:port``. It runs on this machine, for its file is read.
        model: The model's name.
        workload: What to send.
        load: How to send it.

    Raises:
        UserError: The server was not started with a trace file, the file cannot be read here, or
            nothing in it is of these requests.
    """
    target = _TracedModel(url, model)
    try:
        prepared = list(workload.requests)
        with _tracing(target.stub, model) as file:
            began = time.time()
            apply_load(load, target, prepared)
        server = _read_traces(file, set(target.moments), since=began)
    finally:
        target.close()
    if not server:
        raise UserError(
            f"the server's traces at {file} hold none of the requests: is it on this machine?"
        )
    return [_split(target.moments[key], server[key]) for key in target.moments if key in server]


def pack_splits(splits: Sequence[Split]) -> dict[str, Any]:
    """Return splits as JSON-ready data: their columns, whole nanoseconds, packed."""
    table = np.array([[getattr(each, name) for name in PARTS] for each in splits]).reshape(-1, 4)
    packed = zlib.compress(np.rint(table * 1e3).astype("<i8").T.tobytes(), 9)
    return {"requests": len(splits), "parts": list(PARTS), "ns": base64.b64encode(packed).decode()}


def unpack_splits(data: Mapping[str, Any]) -> tuple[Split, ...]:
    """Read what `pack_splits` wrote."""
    raw = zlib.decompress(base64.b64decode(data["ns"], validate=True))
    table = np.frombuffer(raw, dtype="<i8").reshape(len(PARTS), data["requests"]) / 1e3
    return tuple(Split(*row) for row in table.T.tolist())


def mean_splits(splits: Sequence[Split]) -> dict[str, Split]:
    """Return the mean of the middle half, of the slowest hundredth and of the slowest request."""
    ordered = sorted(splits, key=lambda each: each.total_us)
    count = len(ordered)
    tail = max(1, count // 100)
    groups = {
        "the middle half": ordered[count // 4 : count - count // 4],
        f"the slowest 1 % ({tail})": ordered[-tail:],
        "the slowest": ordered[-1:],
    }
    return {
        title: Split(*(float(np.mean([getattr(each, name) for each in group])) for name in PARTS))
        for title, group in groups.items()
        if group
    }


def attribution_table(splits: Sequence[Split]) -> Table:
    """Return what the middle and the slowest requests spent their time on, in milliseconds."""
    return Table(
        title=f"Where the time goes: {len(splits):,} traced requests",
        columns=("mean of", "ms", *(name.removesuffix("_us") for name in PARTS), "most of it"),
        rows=tuple(_row(title, mean) for title, mean in mean_splits(splits).items()),
        note="From sending to the scores, in a run of its own: tracing costs time.",
    )


def _row(title: str, mean: Split) -> tuple[str, ...]:
    most = max(PARTS, key=lambda name: float(getattr(mean, name)))
    return (
        title,
        ms_text(mean.total_us),
        *(ms_text(getattr(mean, name)) for name in PARTS),
        f"{most.removesuffix('_us')}, {getattr(mean, most) / mean.total_us:.0%}",
    )


@dataclass(frozen=True, slots=True)
class _Moments:
    """What the client saw of one request, in seconds of ``time.perf_counter``."""

    began: float
    sent: float
    answered: float
    ended: float


class _TracedModel:
    """A model whose requests carry IDs, and the client's moments of each."""

    name: str = "traced"
    instances: int | None = None

    def __init__(self, url: str, model: str) -> None:
        from tritonclient.grpc import service_pb2

        self._channel, self.stub = import_module("client.channel").open_channel(url)
        described = self.stub.ModelConfig(service_pb2.ModelConfigRequest(name=model), timeout=5.0)
        served = import_module("client.served_model").ServedModel
        self._served = served.from_config(described.config, url)
        self._run = uuid.uuid4().hex  # files of earlier runs lie beside this one's
        self._numbers = itertools.count()
        self.moments: dict[str, _Moments] = {}

    def prepare(self, request: RankingRequest) -> RankingRequest:
        return request

    def __call__(self, prepared: RankingRequest) -> Array:
        began = time.perf_counter()
        message = self._served.message(prepared, _PATIENCE_S)
        message.id = f"bench-{self._run}-{next(self._numbers)}"
        sent = time.perf_counter()
        response = self.stub.ModelInfer(message, timeout=_PATIENCE_S)
        answered = time.perf_counter()
        scores: Array = self._served.scores(response, prepared.candidates)
        self.moments[message.id] = _Moments(began, sent, answered, time.perf_counter())
        return scores

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "grpc", "device": "cpu", "instances": None}

    def close(self) -> None:
        self._channel.close()


@contextmanager
def _tracing(stub: Any, model: str) -> Iterator[Path]:
    """Have the server trace every request of a model; give where it writes to."""
    settings = _set_tracing(stub, model, {})
    file = settings.get("trace_file", "")
    if not file:
        raise UserError(
            "the server was started without a trace file: start it with "
            "`python -m optimize serve --trace-file FILE`"
        )
    _set_tracing(
        stub,
        model,
        {"trace_level": "TIMESTAMPS", "trace_rate": "1", "log_frequency": str(_PER_FILE)},
    )
    try:
        yield Path(file)
    finally:
        # Nothing for a setting takes the model's own back: the server's hold again, OFF by default.
        _set_tracing(stub, model, dict.fromkeys(("trace_level", "trace_rate", "log_frequency")))


def _set_tracing(stub: Any, model: str, values: Mapping[str, str | None]) -> dict[str, str]:
    import grpc
    from tritonclient.grpc import service_pb2

    request = service_pb2.TraceSettingRequest(model_name=model)
    for name, value in values.items():
        request.settings[name].value.extend([] if value is None else [value])
    try:
        answer = stub.TraceSetting(request, timeout=5.0)
    except grpc.RpcError as error:
        raise UserError(f"the server does not trace: {error.details()}") from error
    return {name: " ".join(each.value) for name, each in answer.settings.items()}


def _read_traces(file: Path, wanted: set[str], *, since: float) -> dict[str, dict[str, int]]:
    """Return the server's moments, ns by name, of the wanted requests, by their ID."""
    found: dict[str, dict[str, int]] = {}
    read: dict[Path, int] = {}
    deadline = time.monotonic() + _FLUSH_S
    while len(found) < len(wanted) and time.monotonic() < deadline:
        for path in file.parent.glob(f"{file.name}*"):
            size = path.stat().st_size
            if path.stat().st_mtime < since - 1 or read.get(path) == size:
                continue
            try:
                entries = json.loads(path.read_text())
            except ValueError:
                continue  # it is being written
            read[path] = size
            found |= {key: each for key, each in _by_request(entries).items() if key in wanted}
        time.sleep(0.05)
    return found


def _by_request(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    names: dict[int, str] = {}
    moments: dict[int, dict[str, int]] = {}
    for entry in entries:
        if "request_id" in entry:
            names[entry["id"]] = entry["request_id"]
        for each in entry.get("timestamps", ()):
            moments.setdefault(entry["id"], {})[each["name"]] = int(each["ns"])
    return {name: moments[key] for key, name in names.items() if key in moments}


def _split(client: _Moments, server: Mapping[str, int]) -> Split:
    """Compare durations, never moments: the two may be on different clocks."""
    queue_us = (server["COMPUTE_START"] - server["QUEUE_START"]) / 1e3
    # The answer leaves before the instance has cleaned up.
    left = min(server["COMPUTE_END"], server.get("INFER_RESPONSE_COMPLETE", server["COMPUTE_END"]))
    compute_us = (left - server["COMPUTE_START"]) / 1e3
    away_us = (client.answered - client.sent) * 1e6
    return Split(
        client_us=(client.sent - client.began + client.ended - client.answered) * 1e6,
        network_us=max(away_us - queue_us - compute_us, 0.0),
        queue_us=queue_us,
        compute_us=compute_us,
    )
