"""``python -m bench.validation.shared_memory_floor``: what shared memory could save a client.

A real embedded server serves ARTIFACT. The same requests go to it in turn and in drawn order: as
bytes in the message, as `RankerClient` sends them, and through a region of shared memory that both
have mapped, by a message that was serialized before and says only where the tensors lie. That is
the least a client with shared memory could spend: nothing is registered, chosen or locked within
the measured part. CPU time is this process's alone; ratios mean more than times.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
import uuid
from contextlib import ExitStack
from importlib import import_module
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.environment import environment, load_average
from rankers.command_line import CommandLine, json_option, print_json
from rankers.files import write_atomically
from rankers.requests import RankingRequest
from rankers.wire import wire_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.artifact import Artifact
    from rankers.requests import Array

KIND = "rankserve-validation-shared-memory-floor"
BASELINE, SHARED = "bytes", "shared memory"
CANDIDATES = (200, 2000)
_MODEL = "floor"
_PATIENCE_S = 30.0
_IN_A_ROW = 20


def sized(request: RankingRequest, candidates: int) -> RankingRequest:
    """Return the request with so many candidates, its own ones again and again."""
    places = np.arange(candidates) % request.candidates
    return RankingRequest(request.user, {n: c[places] for n, c in request.items.items()})


def by_bytes(client: Any, request: RankingRequest) -> Callable[[], Array]:
    """Return the call as `RankerClient` makes it."""
    return lambda: client.rank(request)


def by_shared_memory(client: Any, request: RankingRequest, stack: ExitStack) -> Callable[[], Array]:
    """Return the call through a region that is registered already."""
    from tritonclient.grpc import service_pb2

    served = client._described()  # noqa: SLF001 - what it knows of the model
    endpoint = client._fleet.endpoints[0]  # noqa: SLF001 - the same channel
    packed, count = served.pack(request), request.candidates
    size = sum(each.nbytes for each in packed.values()) + 4 * count
    region = SharedMemory(create=True, size=size, name=f"rankserve-{uuid.uuid4().hex}")
    stack.callback(region.unlink)
    stack.callback(region.close)
    name = region.name
    endpoint.stub.SystemSharedMemoryRegister(
        service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=size)
    )
    stack.callback(
        endpoint.stub.SystemSharedMemoryUnregister,
        service_pb2.SystemSharedMemoryUnregisterRequest(name=name),
    )
    message = served.message(request, _PATIENCE_S)
    message.ClearField("raw_input_contents")
    views, offset = [], 0
    for tensor, entry in zip(wire_tensors(served.signature), message.inputs, strict=True):
        array = packed[tensor.name]
        _lies(entry, name, array.nbytes, offset)
        views.append((tensor.name, np.ndarray(array.shape, array.dtype, region.buf, offset)))
        offset += array.nbytes
    _lies(message.outputs[0], name, 4 * count, offset)
    body = message.SerializeToString()
    # Views of a closed region would be of nothing, and keep it from closing.
    scores: list[Any] = [np.ndarray(count, np.float32, region.buf, offset)]
    stack.callback(scores.clear)
    stack.callback(views.clear)

    def call() -> Array:
        fresh = served.pack(request)  # what a caller gives is checked and packed in any case
        for each, view in views:
            view[:] = fresh[each]
        endpoint.calls(body, _PATIENCE_S)
        return np.array(scores[0])

    return call


def _lies(entry: Any, region: str, size: int, offset: int) -> None:
    entry.parameters["shared_memory_region"].string_param = region
    entry.parameters["shared_memory_byte_size"].int64_param = size
    entry.parameters["shared_memory_offset"].int64_param = offset


def measure(artifact: Artifact, request: RankingRequest, rounds: int) -> list[dict[str, Any]]:
    """Call both ways for each number of candidates; return CPU and response times of each."""
    from optimize.triton.embedded import serve
    from optimize.triton.repository import deploy

    order, found = random.Random(0), []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rankserve-floor-")))
        deploy(artifact, folder / "models", _MODEL)
        server = stack.enter_context(
            serve(
                folder / "models",
                grpc_port=0,
                http_port=0,
                metrics_port=0,
                log_file=folder / "triton.log",
            )
        )
        kind = import_module("client").RankerClient
        client = stack.enter_context(
            kind(server.grpc_url, _MODEL, timeout_s=_PATIENCE_S, shared_memory="never")
        )
        for candidates in CANDIDATES:
            asked = sized(request, candidates)
            ways = {
                BASELINE: by_bytes(client, asked),
                SHARED: by_shared_memory(client, asked, stack),
            }
            np.testing.assert_allclose(ways[SHARED](), ways[BASELINE](), rtol=0, atol=1e-5)
            found.append({"candidates": candidates, "ways": _in_turn(ways, rounds, order)})
    return found


def _in_turn(
    ways: dict[str, Callable[[], Array]], rounds: int, order: random.Random
) -> dict[str, dict[str, float]]:
    waits: dict[str, list[float]] = {name: [] for name in ways}
    cpu = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for name in order.sample(list(ways), len(ways)):
            spent = time.process_time()
            for _ in range(_IN_A_ROW):
                began = time.perf_counter()
                ways[name]()
                waits[name].append(time.perf_counter() - began)
            cpu[name] += time.process_time() - spent
    return {
        name: {
            "calls": len(waits[name]),
            "cpu_us": cpu[name] / len(waits[name]) * 1e6,
            "p50_us": float(np.median(waits[name])) * 1e6,
            "cpu_ratio": cpu[name] / cpu[BASELINE],
            "p50_ratio": float(np.median(waits[name]) / np.median(waits[BASELINE])),
        }
        for name in ways
    }


@click.group(
    cls=CommandLine,
    invoke_without_command=True,
    context_settings={"allow_interspersed_args": True},
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--requests", required=True, type=click.Path(path_type=Path), help="safetensors.")
@click.option("--rounds", type=click.IntRange(1), default=100, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(artifact: Path, requests: Path, rounds: int, out: Path | None, *, as_json: bool) -> None:
    """Serve ARTIFACT; measure a call by bytes and through shared memory."""
    from optimize.artifact import open_artifact
    from rankers.requests import load_requests

    busy = load_average()
    found = measure(open_artifact(artifact), load_requests(requests)[0], rounds)
    for each in found:
        for name, of in each["ways"].items():
            click.echo(
                f"{each['candidates']:5} candidates, {name:14} CPU {of['cpu_us']:7.1f} us "
                f"({of['cpu_ratio']:.2f}), p50 {of['p50_us']:7.1f} us ({of['p50_ratio']:.2f})",
                err=as_json,
            )
    result = {
        "kind": KIND,
        "schema": 1,
        "command": "python -m bench.validation.shared_memory_floor ARTIFACT --requests FILE "
        f"--rounds {rounds}",
        "environment": environment().to_json(),
        "load_average": busy,
        "sizes": found,
    }
    if out is not None:
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    if as_json:
        print_json(result)


if __name__ == "__main__":
    main()
