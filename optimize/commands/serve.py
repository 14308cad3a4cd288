"""``optimize serve``: the embedded Triton over a model repository."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankers.command_line import json_option, print_json

if TYPE_CHECKING:
    from optimize.triton.embedded import RunningServer


@click.command()
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    default=Path("model_repository"),
    show_default=True,
    help="The Triton model repository.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--grpc-port", default=8001, show_default=True, help="0 takes a free one.")
@click.option("--http-port", default=8000, show_default=True, help="0 takes a free one.")
@click.option("--metrics-port", default=8002, show_default=True, help="0 takes a free one.")
@click.option("--log-file", type=click.Path(path_type=Path), help="The server's output.")
@click.option(
    "--trace-file", type=click.Path(path_type=Path), help="Lets `bench run --trace` trace requests."
)
@click.option("--model-config-name", help="Serve models by this configuration, where they have it.")
@click.option(
    "--pinned-memory-mb",
    type=click.IntRange(min=0),
    help="Of the pool for copies to and from GPUs [256].",
)
@click.option("--ready-timeout", default=120.0, show_default=True, help="Seconds to get READY.")
@json_option
def serve(
    *,
    repository: Path,
    host: str,
    grpc_port: int,
    http_port: int,
    metrics_port: int,
    log_file: Path | None,
    trace_file: Path | None,
    model_config_name: str | None,
    pinned_memory_mb: int | None,
    ready_timeout: float,
    as_json: bool,
) -> None:
    """Serve a model repository with the embedded Triton until Ctrl-C or SIGTERM."""
    import signal

    from optimize.triton import embedded
    from rankers.cache import cache_folder

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        with embedded.serve(
            repository,
            host=host,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            log_file=log_file or cache_folder() / "logs" / f"triton-{grpc_port}.log",
            trace_file=trace_file,
            model_config_name=model_config_name,
            pinned_memory_mb=pinned_memory_mb,
            ready_timeout_s=ready_timeout,
            progress=lambda line: click.echo(line, err=True),
        ) as server:
            _announce(server, as_json=as_json)
            server.wait()
            click.echo(f"error: the server ended by itself; see {server.log_file}", err=True)
            sys.exit(1)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


def _announce(server: RunningServer, *, as_json: bool) -> None:
    """Say where the server is, and which models it has."""
    if as_json:
        print_json(
            {
                "grpc": server.grpc_url,
                "http": server.http_url,
                "metrics": server.metrics_url,
                "pid": server.pid,
                "log_file": str(server.log_file),
                "models": list(server.models),
                "failed": server.failed,
            }
        )
        sys.stdout.flush()
    else:
        click.echo(f"gRPC     {server.grpc_url}")
        click.echo(f"HTTP     {server.http_url}")
        click.echo(f"metrics  {server.metrics_url}")
        click.echo(f"log      {server.log_file}")
        for name in server.models:
            click.echo(f"READY    {name}")
        click.echo("Ctrl-C stops it")
    for name, reason in server.failed.items():
        click.echo(f"model {name!r} will not load: {reason}", err=True)
