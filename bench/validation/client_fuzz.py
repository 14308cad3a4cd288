"""``python -m bench.validation.client_fuzz``: spoilt requests, answers and descriptions, many.

Requests of every wrong kind, and serialized ones with bytes changed, go to a real embedded server
that serves ARTIFACT; a gRPC server of this module answers as none should
(`bench.validation.hostile_server`). Every call has to end, by the right scores or by a
`RankClientError` of one line that names what is wrong; and the process that does it all must not
grow, nor must one that makes and closes clients.

There are counts in the result and no times, so that a busy machine does for it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.environment import environment
from bench.validation.fuzzing import (
    PATIENCE_S,
    Ends,
    ask_spoilt_requests,
    hear_spoilt_answers,
    meet_no_server,
    read_spoilt_descriptions,
    send_spoilt_bytes,
)
from bench.validation.hostile_server import MODEL, hostile_process
from bench.validation.hostile_wire import hostile_wire
from bench.validation.steadiness import grown, held, traced_kib
from rankers.command_line import CommandLine, json_option, print_json
from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from optimize.artifact import Artifact
    from rankers.requests import RankingRequest

KIND = "rankserve-validation-client-fuzz"
_SERVED = "fuzzed"
_PARTS = 10
# Of a hundred calls.
_REQUESTS, _BYTES, _ANSWERS, _DESCRIPTIONS, _NO_SERVERS = 40, 20, 34, 5, 1
# What a process may grow by that holds nothing: an allocator's own, and caches not full yet.
MOST_RSS_MIB = 16.0
MOST_TRACED_KIB = 64.0
# Three clients have one for each of four calls at once, and when there first are four is chance.
MOST_CONNECTIONS = 12
_MOST_ADDRESSED = 8 * 2**30  # bytes; a process of few threads maps far less


def fuzz(
    artifact: Artifact, requests: list[RankingRequest], *, calls: int, clients: int, seed: int
) -> dict[str, Any]:
    """Make so many calls, and so many clients of each kind; return how they ended."""
    kinds = import_module("client")
    with ExitStack() as stack:
        real = stack.enter_context(_served(artifact))
        hostile = stack.enter_context(hostile_process())
        of_real = stack.enter_context(kinds.RankerClient(real, _SERVED, timeout_s=PATIENCE_S))
        no_server = stack.enter_context(hostile_wire())
        _stay_small()
        of_hostile = [  # alone, and with all policies
            stack.enter_context(kinds.RankerClient(urls, MODEL, timeout_s=PATIENCE_S))
            for urls in ([hostile], [hostile, hostile])
        ]
        expected = [of_real.rank(each) for each in requests]
        phases: dict[str, tuple[int, Callable[[Sequence[int], Ends], None]]] = {
            "spoilt requests": (
                _REQUESTS,
                lambda seeds, ends: ask_spoilt_requests(of_real, requests, expected, seeds, ends),
            ),
            "spoilt bytes": (
                _BYTES,
                lambda seeds, ends: send_spoilt_bytes(of_real, requests, seeds, ends),
            ),
            "spoilt answers": (
                _ANSWERS,
                lambda seeds, ends: hear_spoilt_answers(of_hostile, seeds, ends),
            ),
            "spoilt descriptions": (
                _DESCRIPTIONS,
                lambda seeds, ends: read_spoilt_descriptions(hostile, seeds, ends),
            ),
            "no servers": (
                _NO_SERVERS,
                lambda seeds, ends: meet_no_server(no_server, seeds, ends),
            ),
        }
        ends = {name: Ends() for name in phases}
        memory = []
        for part in range(_PARTS):
            for place, (name, (share, act)) in enumerate(phases.items()):
                number = calls * share // 100 // _PARTS
                first = (seed * len(phases) + place) * 10**7 + part * number
                act(range(first, first + number), ends[name])
            memory.append(held())
            _say(part, ends, memory[-1].rss_mib)
        alive = _still_right(of_real, requests, expected)
        steady = {
            "calls": [each.to_json() for each in memory],
            "traced_kib": traced_kib(lambda: _discard(of_real.rank(requests[0])), 2000),
            "clients": grown(lambda: _one_client(kinds, real, requests[0]), clients),
            "async_clients": _async_grown(kinds, real, requests[0], clients),
        }
    return {
        "phases": {name: each.to_json() for name, each in ends.items()},
        "server_alive_and_right": alive,
        "steady": steady,
        "passed": alive and not any(each.wrongs for each in ends.values()) and is_steady(steady),
    }


def is_steady(steady: dict[str, Any]) -> bool:
    """Tell whether nothing grew: over the calls after the first fifth, and over the clients."""
    first, last = steady["calls"][_PARTS // 5 - 1], steady["calls"][-1]
    of_clients = (steady["clients"], steady["async_clients"])
    return (
        last["rss_mib"] - first["rss_mib"] <= MOST_RSS_MIB
        and last["threads"] <= first["threads"]
        and last["files"] <= first["files"] + MOST_CONNECTIONS
        and steady["traced_kib"] <= MOST_TRACED_KIB
        and all(each["rss_second_half_mib"] <= MOST_RSS_MIB for each in of_clients)
        and all(each["threads"] <= 0 and each["files"] <= 0 for each in of_clients)
    )


@contextmanager
def _served(artifact: Artifact) -> Iterator[str]:
    from optimize.triton.config import ServingOptions
    from optimize.triton.embedded import serve
    from optimize.triton.repository import deploy

    with tempfile.TemporaryDirectory(prefix="rankserve-fuzz-") as name:
        folder = Path(name)
        options = ServingOptions(queue_timeout_ms=PATIENCE_S * 1e3)
        deploy(artifact, folder / "models", _SERVED, options=options)
        log_file = folder / "triton.log"
        models = folder / "models"
        with serve(models, log_file=log_file, grpc_port=0, http_port=0, metrics_port=0) as server:
            yield server.grpc_url


def _stay_small() -> None:
    """Let this process run out of memory before the machine does."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_ADDRESSED, hard))


def _still_right(client: Any, requests: Sequence[RankingRequest], expected: Sequence[Any]) -> bool:
    import numpy as np

    return all(
        np.allclose(client.rank(each), scores, rtol=0, atol=1e-5)
        for each, scores in zip(requests, expected, strict=True)
    )


def _discard(_scores: Any) -> None:
    return


def _one_client(kinds: Any, url: str, request: RankingRequest) -> None:
    with kinds.RankerClient(url, _SERVED, timeout_s=PATIENCE_S) as client:
        client.rank(request)


def _async_grown(kinds: Any, url: str, request: RankingRequest, times: int) -> dict[str, Any]:
    async def one() -> None:
        async with kinds.AsyncRankerClient(url, _SERVED, timeout_s=PATIENCE_S) as client:
            await client.rank(request)

    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as pool:
        # The loop's own pool grows to several threads as it likes, which is no leak of a client's.
        runner.get_loop().set_default_executor(pool)
        return grown(lambda: runner.run(one()), times)


def _say(part: int, ends: dict[str, Ends], rss_mib: float) -> None:
    calls, wrong = sum(e.total for e in ends.values()), sum(e.wrongs for e in ends.values())
    click.echo(
        f"{part + 1} of {_PARTS}: {calls} calls, {wrong} ended wrongly, {rss_mib:.0f} MiB", err=True
    )


@click.group(
    cls=CommandLine,
    invoke_without_command=True,
    context_settings={"allow_interspersed_args": True},
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--requests", required=True, type=click.Path(path_type=Path), help="safetensors.")
@click.option("--calls", type=click.IntRange(1000), default=100_000, show_default=True)
@click.option("--clients", type=click.IntRange(4), default=1_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    artifact: Path, requests: Path, out: Path | None, *, as_json: bool, **options: int
) -> None:
    """Serve ARTIFACT, ask it and a hostile server everything, and count how it ended."""
    from optimize.artifact import open_artifact
    from rankers.requests import load_requests

    asked = list(load_requests(requests))[:50]
    found = fuzz(open_artifact(artifact), asked, **options)
    result = {
        "kind": KIND,
        "schema": 1,
        "command": "python -m bench.validation.client_fuzz ARTIFACT --requests FILE "
        "--calls {calls} --clients {clients} --seed {seed}".format(**options),
        "environment": environment().to_json(),
        **found,
    }
    if out is not None:
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    for name, phase in found["phases"].items():
        for each in phase["wrong"]:
            click.echo(f"{name}: {each}", err=True)
    click.echo(f"steady: {json.dumps(found['steady'])}", err=True)
    if as_json:
        print_json(result)
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
