"""``python -m client``: a look at a server from a terminal. Exit code 1 is for one not ready."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from rankers.command_line import CommandLine, fail, json_option, print_json

_PATIENCE_S = 5.0

timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=_PATIENCE_S,
    show_default=True,
    help="Seconds that an answer may take.",
)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Ask a Triton server whether it is there, what it serves, and for scores."""


@main.command()
@click.argument("url")
@timeout_option
@json_option
def ping(url: str, timeout_s: float, *, as_json: bool) -> None:
    """Tell whether the server at URL (host:port of its gRPC) is ready; exit 1 if it is not."""
    from client.server import ask_server

    began = time.perf_counter()
    server = ask_server(url, timeout_s)
    took_ms = (time.perf_counter() - began) * 1e3
    if as_json:
        print_json({"url": url, "ready": server.ready, "version": server.version, "ms": took_ms})
    else:
        said = "ready" if server.ready else "not ready"
        click.echo(f"{url}: {said}, {server.name} {server.version}, {took_ms:.1f} ms")
    sys.exit(0 if server.ready else 1)


@main.command()
@click.argument("url")
@timeout_option
@json_option
def models(url: str, timeout_s: float, *, as_json: bool) -> None:
    """List the models at URL; exit 1 if one is not ready."""
    from client.server import ask_models

    found = ask_models(url, timeout_s)
    if as_json:
        print_json({"url": url, "models": [each._asdict() for each in found]})
    else:
        for each in found:
            version = f"version {each.version}" if each.version else ""
            click.echo(f"{each.name:24} {each.state:12} {version}{each.reason}")
        if not found:
            click.echo(f"{url} serves no model", err=True)
    sys.exit(0 if all(each.state == "READY" for each in found) else 1)


@main.command()
@click.argument("url")
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--top", type=click.IntRange(1), help="Only the best so many, best first.")
@timeout_option
@json_option
def rank(
    url: str, model: str, file: Path, top: int | None, timeout_s: float, *, as_json: bool
) -> None:
    """Print MODEL's scores at URL for the request in FILE (- for standard input).

    FILE is JSON, columns by name: {"user": {"user_id": 7}, "items": {"item_id": [5, 6]}}. URL may
    be several, with commas between them.
    """
    from client import RankerClient

    given = _read(file)
    with RankerClient(url.split(","), model, timeout_s=timeout_s) as ranker:
        request = ranker.request(given["user"], given["items"])
        began = time.perf_counter()
        places, scores = ranker.top_k(request, top or request.candidates)
        took_ms = (time.perf_counter() - began) * 1e3
    if top is None:
        order = places.argsort()
        places, scores = places[order], scores[order]
    rows = list(zip(places.tolist(), scores.tolist(), strict=True))
    if as_json:
        print_json(
            {
                "model": model,
                "candidates": request.candidates,
                "ms": took_ms,
                "scores": [{"candidate": place, "score": score} for place, score in rows],
            }
        )
        return
    for place, score in rows:
        click.echo(f"{place:6} {score:.6g}")
    click.echo(f"{request.candidates} candidates, {took_ms:.1f} ms", err=True)


def _read(file: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        given = json.loads(text)
    except (OSError, ValueError) as error:
        fail(f"{file}: cannot be read as a JSON request: {error}")
    for side in ("user", "items"):
        if not isinstance(given, dict) or not isinstance(given.get(side), dict):
            fail(f'{file}: has no "{side}"; expected {{"user": {{…}}, "items": {{…}}}}')
    return dict(given)
