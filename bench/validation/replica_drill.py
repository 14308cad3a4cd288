"""``python -m bench.validation.replica_drill``: three replicas under load, and what befalls them.

Three embedded servers serve one ARTIFACT. Requests come at Poisson times at a share of what the
three answer in a closed loop, from one client with all its policies; response times count from the
intended moment. One after the other: nothing happens; one replica is killed (-9) and started again;
one is stopped (SIGSTOP) for a while, with hedging and without; the model is deployed anew and
loaded by each. Every answer is compared with the artifact's in this process.

All run on this machine and share its cores, so counts (failed, wrong, extra calls) are the result;
times are worth something on a machine with a core for each server.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.environment import environment, load_average
from bench.validation.result import hand_over
from rankers.command_line import CommandLine, json_option
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.artifact import Artifact
    from optimize.triton.embedded import RunningServer
    from rankers.requests import Array, RankingRequest

KIND = "rankserve-validation-replica-drill"
REPLICAS = 3
_MODEL = "drill"
_WORKERS = 64
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: from its intended moment to its scores."""

    latency_s: float
    error: str
    wrong: bool


class Replicas:
    """Three servers of one repository, each at an address that it keeps."""

    def __init__(self, artifact: Artifact, folder: Path, stack: ExitStack) -> None:
        self._artifact, self._folder = artifact, folder
        self._stacks = [stack.enter_context(ExitStack()) for _ in range(REPLICAS)]
        self._ports = [0] * REPLICAS
        self._lives = 0
        self.servers: list[Any] = [None] * REPLICAS
        self.deploy()
        for place in range(REPLICAS):
            self.start(place)

    @property
    def urls(self) -> list[str]:
        """Where clients go."""
        return [each.grpc_url for each in self.servers]

    def deploy(self) -> None:
        """Write the next version, which servers load when they are told."""
        from optimize.triton.repository import deploy

        deploy(self._artifact, self._folder / "models", _MODEL)

    def start(self, place: int) -> None:
        """Start a server at its address, in place of a dead one."""
        from optimize.triton.embedded import serve

        self._stacks[place].close()
        self._lives += 1
        server: RunningServer = self._stacks[place].enter_context(
            serve(
                self._folder / "models",
                grpc_port=self._ports[place],
                http_port=0,
                metrics_port=0,
                log_file=self._folder / f"triton-{self._lives}.log",
            )
        )
        self._ports[place] = int(server.grpc_url.rsplit(":", 1)[1])
        self.servers[place] = server

    def kill_and_restart(self, place: int, seconds: float) -> None:
        """Kill a server, and start it again a while later."""
        os.kill(self.servers[place].pid, signal.SIGKILL)
        time.sleep(seconds / 4)
        self.start(place)

    def stop_for(self, place: int, seconds: float) -> None:
        """Stop a server for a while."""
        os.kill(self.servers[place].pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self.servers[place].pid, signal.SIGCONT)

    def replace_version(self) -> None:
        """Deploy the model anew, and have each server load it in turn."""
        self.deploy()
        for each in self.servers:
            each.reload(_MODEL)


class Load:
    """Asks requests, and compares every answer.

    Args:
        client: Of all replicas.
        requests: Asked in turn.
        expected: The scores of each.
    """

    def __init__(self, client: Any, requests: list[RankingRequest], expected: list[Array]) -> None:
        self._client, self._requests, self._expected = client, requests, expected

    def ask(self, number: int, intended: float) -> Answer:
        """Ask one request."""
        place = number % len(self._requests)
        error, wrong = "", False
        try:
            scores = self._client.rank(self._requests[place])
            wrong = not np.allclose(scores, self._expected[place], rtol=0, atol=1e-5)
        except UserError as failure:
            error = f"{type(failure).__name__}: {failure}"
        return Answer(time.monotonic() - intended, error, wrong)

    def closed_loop(self, seconds: float, threads: int) -> float:
        """Return how many requests a second are answered."""
        until = time.monotonic() + seconds

        def work(first: int) -> int:
            number = first
            while (now := time.monotonic()) < until:
                self.ask(number, now)
                number += threads
            return (number - first) // threads

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(work, range(threads))) / seconds

    def open_loop(self, rate: float, happens: Callable[[], None], least_s: float) -> list[Answer]:
        """Ask at Poisson times until what happens is over and ``least_s`` have passed."""
        random = np.random.default_rng(0)
        failed: list[BaseException] = []

        def happen() -> None:
            try:
                happens()
            except BaseException as error:  # noqa: BLE001 - raised below
                failed.append(error)

        thread = threading.Thread(target=happen)
        began = intended = time.monotonic()
        thread.start()
        asked: list[Future[Answer]] = []
        with ThreadPoolExecutor(_WORKERS) as pool:
            while thread.is_alive() or time.monotonic() - began < least_s:
                intended += random.exponential(1 / rate)
                time.sleep(max(0.0, intended - time.monotonic()))
                asked.append(pool.submit(self.ask, len(asked), intended))
            answers = [each.result() for each in asked]
        if failed:
            raise failed[0]
        return answers


def drill(artifact: Artifact, requests: list[RankingRequest], options: dict[str, Any]) -> Any:
    """Run every phase; return what happened in each."""
    from optimize.runtimes import open_predictor

    client_package = import_module("client")
    predictor = open_predictor(artifact, threads=1)
    expected = [predictor(artifact.manifest.columns_of(each)) for each in requests]
    seconds, stop_s = options["seconds"], options["stop_s"]
    phases: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rankserve-drill-")))
        replicas = Replicas(artifact, folder, stack)
        client = stack.enter_context(
            client_package.RankerClient(replicas.urls, _MODEL, timeout_s=_TIMEOUT_S)
        )
        load = Load(client, requests, expected)
        capacity = load.closed_loop(seconds, 2 * REPLICAS)
        rate = options["share"] * capacity
        all_policies = client._fleet.policies  # noqa: SLF001 - turned off for one phase
        for name, happens, hedge in (
            ("nothing", lambda: None, True),
            ("kill -9 and restart", partial(replicas.kill_and_restart, 0, seconds), True),
            (f"SIGSTOP for {stop_s:g} s", partial(replicas.stop_for, 1, stop_s), True),
            (f"SIGSTOP for {stop_s:g} s, no hedging", partial(replicas.stop_for, 1, stop_s), False),
            ("a new version", replicas.replace_version, True),
            ("nothing again", lambda: None, True),
        ):
            client._fleet.policies = replace(all_policies, hedge=hedge)  # noqa: SLF001
            before = client.counts()
            answers = load.open_loop(rate, happens, seconds)
            phases.append({"phase": name} | _summary(answers, before, client.counts()))
            _say(phases[-1])
    return {"capacity_per_s": capacity, "rate_per_s": rate, "phases": phases}


def _summary(
    answers: list[Answer], before: dict[str, int], after: dict[str, int]
) -> dict[str, Any]:
    latencies = np.array([each.latency_s for each in answers])
    counts = {name: count - before.get(name, 0) for name, count in after.items()}
    extra = counts["calls"] - counts["requests"]
    return {
        "requests": len(answers),
        "failed": sum(bool(each.error) for each in answers),
        "wrong": sum(each.wrong for each in answers),
        "errors": sorted({each.error for each in answers if each.error})[:5],
        "p50_ms": float(np.quantile(latencies, 0.5)) * 1e3,
        "p99_ms": float(np.quantile(latencies, 0.99)) * 1e3,
        "extra_load": extra / counts["requests"],
        "counts": counts,
    }


def _say(phase: dict[str, Any]) -> None:
    click.echo(
        f"{phase['phase']:32} {phase['requests']:6} requests, {phase['failed']} failed, "
        f"{phase['wrong']} wrong, {phase['extra_load']:.1%} more calls, p50 {phase['p50_ms']:.2f} "
        f"ms, p99 {phase['p99_ms']:.1f} ms",
        err=True,
    )


@click.group(
    cls=CommandLine,
    invoke_without_command=True,
    context_settings={"allow_interspersed_args": True},
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--requests", required=True, type=click.Path(path_type=Path), help="safetensors.")
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Of each phase.")
@click.option("--stop", "stop_s", type=float, default=5.0, show_default=True)
@click.option("--share", type=float, default=0.6, show_default=True, help="Of the capacity.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    artifact: Path, requests: Path, out: Path | None, *, as_json: bool, **options: Any
) -> None:
    """Serve ARTIFACT three times, let things happen, and count what failed or was wrong."""
    from optimize.artifact import open_artifact
    from rankers.requests import load_requests

    busy = load_average()
    asked = list(load_requests(requests))[:500]
    found = drill(open_artifact(artifact), asked, options)
    result = {
        "kind": KIND,
        "schema": 1,
        "command": "python -m bench.validation.replica_drill ARTIFACT --requests FILE "
        "--seconds {seconds:g} --stop {stop_s:g} --share {share:g}".format(**options),
        "environment": environment().to_json(),
        "load_average": busy,
        **found,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
