"""``python -m bench.validation.replica_drill``: three replicas under load, and what befalls them.

Three embedded servers serve one model. Requests come at Poisson times at a share of what the three
answer in a closed loop, from one client with all its policies; response times count from the
intended moment. One after the other: nothing happens; one replica is killed (-9) and started again;
one is stopped (SIGSTOP) for a while, with hedging and without; a version of the model is added and
loaded by each. Every answer is compared with what it has to be.

The model answers after a known time, by sleeping (`bench.validation.timed_model`), so that three
servers and their client do on a machine of two cores, and times mean something. With an ARTIFACT
that is served instead: all share this machine's cores, and only counts (failed, wrong, extra calls)
mean something where it has not one for each server.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bench.environment import environment, load_average
from bench.validation.checked_load import Load
from bench.validation.result import hand_over
from bench.validation.timed_server import MODEL, timed_requests, write_timed_model
from rankers.command_line import CommandLine, json_option
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.validation.checked_load import Answer
    from optimize.triton.embedded import RunningServer
    from rankers.requests import Array, RankingRequest

KIND = "rankserve-validation-replica-drill"
REPLICAS = 3
_TIMEOUT_S = 10.0
_REQUESTS = 500


@dataclass(frozen=True, slots=True)
class Served:
    """What the replicas serve, and what has to come of it.

    Attributes:
        name: Of the model.
        deploy: Writes the model, or its next version, into a repository.
        requests: Asked in turn.
        expected: The scores of each.
    """

    name: str
    deploy: Callable[[Path], object]
    requests: list[RankingRequest]
    expected: list[Array]


def timed(instances: int, service_s: float) -> Served:
    """Return a model that sleeps, with ``instances`` in each server."""
    write = partial(write_timed_model, instances=instances, service_s=service_s)
    return Served(MODEL, write, *timed_requests(_REQUESTS))


def of_artifact(artifact: Path, requests: Path) -> Served:
    """Return an artifact, with the scores that it gives in this process."""
    from optimize.artifact import open_artifact
    from optimize.runtimes import open_predictor
    from optimize.triton.repository import deploy
    from rankers.requests import load_requests

    opened = open_artifact(artifact)
    asked = list(load_requests(requests))[:_REQUESTS]
    predictor = open_predictor(opened, threads=1)
    expected = [predictor(opened.manifest.columns_of(each)) for each in asked]
    return Served("drill", lambda models: deploy(opened, models, "drill"), asked, expected)


class Replicas:
    """Three servers of one repository, each at an address that it keeps."""

    def __init__(self, served: Served, folder: Path, stack: ExitStack) -> None:
        self._served, self._models, self._folder = served, folder / "models", folder
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
        self._served.deploy(self._models)

    def start(self, place: int) -> None:
        """Start a server at its address, in place of a dead one."""
        from optimize.triton.embedded import serve

        self._stacks[place].close()
        self._lives += 1
        server: RunningServer = self._stacks[place].enter_context(
            serve(
                self._models,
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
            each.reload(self._served.name)


def drill(served: Served, *, seconds: float, stop_s: float, share: float) -> dict[str, Any]:
    """Run every phase; return what happened in each.

    Args:
        served: By three servers.
        seconds: Of each phase, at least.
        stop_s: How long a server is stopped.
        share: Of what the three answer in a closed loop, what is asked.
    """
    client_package = import_module("client")
    phases: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rankserve-drill-")))
        replicas = Replicas(served, folder, stack)
        client = stack.enter_context(
            client_package.RankerClient(replicas.urls, served.name, timeout_s=_TIMEOUT_S)
        )
        load = Load(client, served.requests, served.expected)
        capacity = load.closed_loop(min(5.0, seconds), 4 * REPLICAS)
        rate = share * capacity
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
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option("--requests", type=click.Path(path_type=Path), help="Of ARTIFACT, safetensors.")
@click.option(
    "--instances", type=click.IntRange(1), default=2, show_default=True, help="That sleep, of each."
)
@click.option("--service-ms", type=float, default=20.0, show_default=True, help="They sleep.")
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Of each phase.")
@click.option("--stop", "stop_s", type=float, default=5.0, show_default=True)
@click.option("--share", type=float, default=0.6, show_default=True, help="Of the capacity.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here.")
@json_option
def main(
    artifact: Path | None,
    requests: Path | None,
    instances: int,
    service_ms: float,
    out: Path | None,
    *,
    as_json: bool,
    **options: float,
) -> None:
    """Serve a model (or ARTIFACT) three times, let things happen, and count what went wrong."""
    busy = load_average()
    if (artifact is None) != (requests is None):
        raise UserError("ARTIFACT and --requests go together: name both, or neither")
    if artifact is None or requests is None:
        served, what = timed(instances, service_ms / 1e3), f"--instances {instances}"
        what += f" --service-ms {service_ms:g}"
    else:
        served, what = of_artifact(artifact, requests), "ARTIFACT --requests FILE"
    found = drill(served, **options)
    given = " --seconds {seconds:g} --stop {stop_s:g} --share {share:g}".format(**options)
    result = {
        "kind": KIND,
        "schema": 2,
        "command": f"python -m bench.validation.replica_drill {what}{given}",
        "environment": environment().to_json(),
        "load_average": busy,
        **found,
    }
    hand_over(result, out, as_json=as_json)


if __name__ == "__main__":
    main()
