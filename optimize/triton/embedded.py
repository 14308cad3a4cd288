"""The embedded Triton server: started, watched and stopped as a child process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from optimize.triton.config_files import check_config_name
from optimize.triton.control import load_model, server_stub
from optimize.triton.installation import ServerInstallation, install
from optimize.triton.ports import claim_ports
from optimize.triton.repository import deployed_models, versions
from optimize.triton.serving_checks import missing_here
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RunningServer", "ServerError", "ServerInstallation", "install", "serve"]

_STOP_GRACE_S = 10.0
_SUPERVISOR = Path(__file__).parent / "supervisor.py"


class ServerError(UserError):
    """The server or a model cannot be started; the message says why."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that is up.

    Attributes:
        grpc_url: Where clients go, as ``host:port``.
        http_url: Triton's HTTP API.
        metrics_url: Prometheus metrics.
        pid: Of ``tritonserver``.
        log_file: What it prints.
        models: The names that are ready.
        failed: Why each of the others would not load, in one line, by name.
    """

    grpc_url: str
    http_url: str
    metrics_url: str
    pid: int
    log_file: Path
    models: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    def reload(self, name: str, *, timeout_s: float = 120.0) -> None:
        """Load the newest version of a model, and unload the old one when the new one is ready.

        Requests are answered all the while; if the new version will not load, by the old one.

        Raises:
            ServerError: It will not load.
        """
        reason = load_model(self.grpc_url, name, timeout_s)
        if reason:
            raise ServerError(f"model {name!r} will not load: {reason}")

    def wait(self) -> None:
        """Return when the server's process has ended."""
        try:
            pid = os.pidfd_open(self.pid)
        except ProcessLookupError:  # it ended, and its supervisor has seen to it already
            return
        try:
            import select

            select.select([pid], [], [])
        finally:
            os.close(pid)


@contextmanager
def serve(
    repository: Path,
    *,
    grpc_port: int = 8001,
    http_port: int = 8000,
    metrics_port: int = 8002,
    host: str = "127.0.0.1",
    log_file: Path,
    trace_file: Path | None = None,
    model_config_name: str | None = None,
    pinned_memory_mb: int | None = None,
    ready_timeout_s: float = 120.0,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[RunningServer]:
    """Serve every deployed model of a repository until the block ends.

    Args:
        repository: What `optimize.triton.repository.deploy` wrote to.
        grpc_port: 0 takes a free one, as for the other ports.
        http_port: Of Triton's HTTP API.
        metrics_port: Of the Prometheus metrics.
        host: The address it listens on; only this machine can reach the default.
        log_file: Where the server's output goes; overwritten.
        trace_file: Where timestamps of single requests go while a client has tracing turned on
            (`bench.attribution`); without it, nobody can.
        model_config_name: Which configuration models are served by, where they have it; the others
            by their default one.
        pinned_memory_mb: Of the pool for copies to and from GPUs, in MiB; Triton's default is 256.
        ready_timeout_s: How long the server and its models may take to get ready.
        progress: Is told in a line what happens.

    Yields:
        The server, with every model that loads ready.

    Raises:
        UserError: The server cannot be set up, a port is occupied, or no model will load.
    """
    names = deployed_models(repository)
    if not names:
        raise ServerError(f"{repository}: no model is deployed here: run `deploy` first")
    check_config_name(repository, names, model_config_name)
    missing = {
        each: missing_here(repository / each, model_config_name, versions(repository / each)[-1])
        for each in names
    }
    failed = {name: why for name, why in missing.items() if why}
    if len(failed) == len(names):
        raise ServerError(_reasons(failed))
    installation = install(progress)
    grpc_port, http_port, metrics_port = claim_ports(
        host, {"gRPC": grpc_port, "HTTP": http_port, "metrics": metrics_port}
    )
    reach = "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104 - compared, not bound
    log_file = log_file.resolve()
    deadline = time.monotonic() + ready_timeout_s
    with ExitStack() as stack:
        supervisor = _start(
            stack,
            installation,
            log_file,
            [
                f"--model-repository={repository.resolve()}",
                "--model-control-mode=explicit",
                "--disable-auto-complete-config",
                f"--backend-directory={installation.backends}",
                f"--grpc-address={host}",
                f"--http-address={host}",
                f"--metrics-address={host}",
                f"--grpc-port={grpc_port}",
                f"--http-port={http_port}",
                f"--metrics-port={metrics_port}",
                # Without a GPU its metrics only print errors about NVML and DCGM.
                f"--allow-gpu-metrics={str(Path('/dev/nvidiactl').exists()).lower()}",
                "--allow-sagemaker=false",
                "--allow-vertex-ai=false",
                f"--exit-timeout-secs={round(_STOP_GRACE_S / 2)}",
                *([f"--trace-config=triton,file={trace_file.resolve()}"] if trace_file else []),
                *([f"--model-config-name={model_config_name}"] if model_config_name else []),
                *(
                    [f"--pinned-memory-pool-byte-size={pinned_memory_mb << 20}"]
                    if pinned_memory_mb is not None
                    else []
                ),
            ],
        )
        pid = _read_pid(supervisor, log_file)
        url = f"{reach}:{grpc_port}"
        _wait_until_live(url, supervisor, log_file, deadline)
        for name in names:
            reason = failed.get(name) or load_model(
                url, name, max(1.0, deadline - time.monotonic())
            )
            if reason:
                failed[name] = reason
        if len(failed) == len(names):
            raise ServerError(f"{_reasons(failed)} (log: {log_file})")
        yield RunningServer(
            grpc_url=url,
            http_url=f"http://{reach}:{http_port}",
            metrics_url=f"http://{reach}:{metrics_port}/metrics",
            pid=pid,
            log_file=log_file,
            models=tuple(name for name in names if name not in failed),
            failed=failed,
        )


def _reasons(failed: dict[str, str]) -> str:
    return "; ".join(f"model {name!r} will not load: {why}" for name, why in failed.items())


def _start(
    stack: ExitStack, installation: ServerInstallation, log_file: Path, options: list[str]
) -> subprocess.Popen[str]:
    """Start the server under its supervisor; leaving the stack stops both."""
    # Of its own, so that what a killed server leaves in /dev/shm can be told from others'.
    prefix = f"rankserve_{uuid.uuid4().hex[:12]}_"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("wb") as log:
        supervisor = subprocess.Popen(
            [
                *(sys.executable, "-S", "-E", str(_SUPERVISOR), str(_STOP_GRACE_S), prefix),
                str(installation.executable),
                *options,
                f"--backend-config=python,shm-region-prefix-name={prefix}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=installation.environment(),
            start_new_session=True,
            text=True,
        )
    stack.callback(_stop, supervisor)
    return supervisor


def _stop(supervisor: subprocess.Popen[str]) -> None:
    if supervisor.stdin is not None:
        supervisor.stdin.close()
    try:
        supervisor.wait(_STOP_GRACE_S * 2)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    if supervisor.stdout is not None:
        supervisor.stdout.close()


def _read_pid(supervisor: subprocess.Popen[str], log_file: Path) -> int:
    stream: IO[str] | None = supervisor.stdout
    line = stream.readline() if stream else ""
    if not line.strip().isdecimal():
        raise ServerError(f"the server did not start: {_last_error(log_file)}")
    return int(line)


def _wait_until_live(
    url: str, supervisor: subprocess.Popen[str], log_file: Path, deadline: float
) -> None:
    import grpc
    from tritonclient.grpc import service_pb2

    with server_stub(url) as stub:
        while True:
            if supervisor.poll() is not None:
                raise ServerError(f"the server ended while starting: {_last_error(log_file)}")
            try:
                if stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=1.0).live:
                    return
            except grpc.RpcError:
                pass  # Not listening yet.
            if time.monotonic() > deadline:
                raise ServerError(f"the server did not get live in time (log: {log_file})")
            time.sleep(0.05)


def _last_error(log_file: Path) -> str:
    """Return the last line of a log that reports an error, without its stamp."""
    lines = log_file.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith(("E", "error", "Error"))]
    chosen = (errors or lines or ["it printed nothing"])[-1]
    return f"{re.sub(r'^E[0-9. :]+[^]]*] ', '', chosen)} (log: {log_file})"
