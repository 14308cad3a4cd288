"""``python -m optimize``: from a trained ranker to a served one.

Heavy imports are inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optimize.children import die_with_parent
from optimize.options import make_serving_options, serving_options
from rankers.command_line import CommandLine, fail, json_option, print_json

if TYPE_CHECKING:
    from optimize.triton.embedded import RunningServer


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rankserve", prog_name="rankserve")
def main() -> None:
    """Optimize a trained ranker, prove that it still ranks, and deploy it to Triton."""
    die_with_parent()


@main.command()
@click.argument("ranker")
@click.option("--recipe", default="cpu-fp32", show_default=True, help="A name or a .toml file.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run's folder.")
@click.option("--time-limit", type=click.FloatRange(min=1), help="Seconds for each step.")
@click.option("--memory-limit", type=click.FloatRange(min=0.1), help="GiB for each step.")
@json_option
def run(
    *,
    ranker: str,
    recipe: str,
    out: Path,
    time_limit: float | None,
    memory_limit: float | None,
    as_json: bool,
) -> None:
    """Take RANKER through a recipe's stages and gates.

    RANKER is file.py:function, package.module:function, a checkpoint folder, or a name in the zoo.
    """
    from optimize.children import default_limits
    from optimize.pipeline import run_recipe
    from optimize.recipe import load_recipe
    from optimize.report import TerminalObserver, print_run

    limits = default_limits()
    if time_limit:
        limits = dataclasses.replace(limits, seconds=time_limit)
    if memory_limit:
        limits = dataclasses.replace(limits, memory_bytes=int(memory_limit * 2**30))
    observer = TerminalObserver()
    try:
        result = run_recipe(ranker, load_recipe(recipe), out, limits=limits, observer=observer)
    finally:
        observer.stop()
    if as_json:
        print_json(result.to_json())
    print_run(result)
    sys.exit(0 if result.passed else 1)


@main.command()
@json_option
def stages(as_json: bool) -> None:
    """List the stages with their options."""
    from optimize.stages import STAGES, stage_class

    described = []
    for name in STAGES:
        kind = stage_class(name)
        described.append(
            {
                "name": name,
                "consumes": kind.consumes,
                "produces": kind.produces,
                "needs": list(kind.needs),
                "summary": (kind.__doc__ or "").splitlines()[0],
                "options": {
                    each.name: {"default": each.default, "help": each.metadata.get("help", "")}
                    for each in dataclasses.fields(kind)
                },
            }
        )
    if as_json:
        print_json({"stages": described})
        return
    for each in described:
        click.echo(f"{each['name']}  ({each['consumes']} → {each['produces']})  {each['summary']}")
        for option, about in each["options"].items():
            click.echo(f"    {option} = {about['default']!r}  {about['help']}")


@main.command()
@json_option
def recipes(as_json: bool) -> None:
    """List the built-in recipes."""
    from optimize.recipe import built_in_recipes, load_recipe

    loaded = [load_recipe(name) for name in built_in_recipes()]
    if as_json:
        listed: list[dict[str, Any]] = [
            {
                "name": each.name,
                "description": each.description,
                "stages": [use.name for use in each.stages],
                "gates": each.gates_json(),
            }
            for each in loaded
        ]
        print_json({"recipes": listed})
        return
    for each in loaded:
        click.echo(f"{each.name}  {each.description}")
        click.echo(f"    {' → '.join(use.name for use in each.stages)}")


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """Print what ARTIFACT (its folder, or a run's) says of itself."""
    from optimize.pipeline import find_artifact
    from optimize.report import print_artifact

    found = find_artifact(artifact)
    if as_json:
        manifest = found.manifest.to_json()
        print_json({"folder": str(found.folder), "model_bytes": found.model_bytes} | manifest)
    else:
        print_artifact(found)


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def check(artifact: Path, as_json: bool) -> None:
    """Check that ARTIFACT is whole, was gated, and runs on this machine."""
    from optimize.pipeline import find_artifact
    from optimize.requirements import check_artifact

    found = find_artifact(artifact)
    checks = check_artifact(found)
    passed = all(ok for _, ok, _ in checks)
    if as_json:
        listed = [{"check": name, "passed": ok, "found": text} for name, ok, text in checks]
        print_json({"folder": str(found.folder), "passed": passed, "checks": listed})
    else:
        for name, ok, text in checks:
            click.echo(f"{'✓' if ok else '✗'} {name}: {text}")
    sys.exit(0 if passed else 1)


@main.command()
@click.argument("ranker")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Keeps the result.")
@click.option("--candidates", default="1,2,37,200,700", show_default=True, help="N to probe at.")
def capture(ranker: str, store: Path, candidates: str) -> None:
    """Export RANKER to a torch program with its evidence (the first step of `run`)."""
    from optimize.capture import capture as capture_ranker
    from rankers.ranker import load_ranker

    counts = [int(each) for each in candidates.split(",") if each.strip().isdigit()]
    if not counts or min(counts) < 1:
        fail(f"--candidates is {candidates!r}; expected whole numbers from 1, such as 1,200")
    made = capture_ranker(load_ranker(ranker), store, candidates=counts)
    print_json({"artifact": str(made.folder)})


@main.command()
@click.argument("name")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Keeps the result.")
@click.option("--options", default="{}", help="The stage's options as a JSON object.")
def stage(name: str, artifact: Path, store: Path, options: str) -> None:
    """Run the stage NAME on ARTIFACT alone, without gates."""
    from optimize.artifact import open_artifact
    from optimize.build import run_stage

    made = run_stage(name, _json_object(options, "--options"), open_artifact(artifact), store)
    print_json({"artifact": str(made.folder)})


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    required=True,
    help="The captured original: a capture folder of a run.",
)
@click.option("--limits", default="{}", help='As JSON: {"parity": {…}, "quality": {…}}.')
def gate(artifact: Path, against: Path, limits: str) -> None:
    """Judge ARTIFACT against the captured original; print the verdicts."""
    from optimize.artifact import open_artifact
    from optimize.gates import judge
    from optimize.recipe import gate_limits

    parity, quality = gate_limits(_json_object(limits, "--limits"))
    verdicts = judge(open_artifact(artifact), open_artifact(against), parity, quality)
    print_json({"verdicts": [each.to_json() for each in verdicts]})


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    default=Path("model_repository"),
    show_default=True,
    help="The Triton model repository.",
)
@click.option("--name", help="The model's name; the ranker's by default.")
@click.option("--ungated", is_flag=True, help="Deploy although no gate has passed it.")
@serving_options
@json_option
def deploy(
    *,
    artifact: Path,
    repository: Path,
    name: str | None,
    ungated: bool,
    as_json: bool,
    **serving: Any,
) -> None:
    """Put ARTIFACT (its folder, or a run's) into a Triton model repository."""
    from optimize.pipeline import find_artifact
    from optimize.triton.repository import deploy as deploy_artifact

    found = find_artifact(artifact)
    if not found.passed and not ungated:
        reasons = [f"{each.gate}: {each.reason}" for each in found.manifest.verdicts]
        why = "; ".join(reasons) or "no gate has looked at it"
        click.echo(f"{found.folder} is not deployed: {why} (--ungated deploys it still)", err=True)
        sys.exit(1)
    options = make_serving_options(serving)
    deployed = deploy_artifact(
        found, repository, name or found.manifest.name, options=options, ungated=ungated
    )
    if as_json:
        folder = str(deployed.folder)
        print_json({"name": deployed.name, "version": deployed.version, "folder": folder})
    else:
        click.echo(f"deployed {deployed.name} version {deployed.version}: {deployed.folder}")
        if options.backend == "python":
            click.echo(f"serve it: python -m optimize serve --repository {repository}")
        else:
            click.echo("serve it: in NVIDIA's image, as Dockerfile.triton says")


@main.command()
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


def _json_object(text: str, option: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        fail(f"{option} is not JSON: {error}")
    if not isinstance(data, dict):
        fail(f"{option} is not a JSON object")
    found: dict[str, Any] = data
    return found
