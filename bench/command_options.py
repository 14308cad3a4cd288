"""What the commands that measure have in common: their options, and what they open."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankers.command_line import json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from bench.measure import Load
    from bench.targets import Target
    from bench.workload import Workload

TARGET_HELP = """A TARGET is an artifact's folder (or a run's); a served model, as
grpc://host:port/model by our client, or by tritonclient://, shm://, http:// or prebuilt://;
kept:FOLDER, an artifact that keeps users' states; callable:file.py:function, which scores requests;
or a ranker (file.py:function, a checkpoint folder, a name in the zoo), which is measured in eager
torch."""


class Numbers(click.ParamType[tuple[Any, ...]]):
    """Numbers with commas between them, each at least as large as asked."""

    name = "N,N,…"

    def __init__(self, least: float, *, whole: bool = True, words: tuple[str, ...] = ()) -> None:
        self.least, self.whole, self.words = least, whole, words

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        """Read them; a word stands for None."""
        found: list[Any] = []
        for text in str(value).split(","):
            if text in self.words:
                found.append(None)
                continue
            try:
                number = int(text) if self.whole else float(text)
            except ValueError:
                self.fail(f"{text!r} is not a number", param, ctx)
            if not number >= self.least:
                self.fail(f"{text} is below {self.least:g}", param, ctx)
            found.append(number)
        if len(set(found)) != len(found):
            self.fail(f"{value} names one of them twice", param, ctx)
        return tuple(found)


ranker_option = click.option(
    "--ranker", help="TARGETS are recipes (`optimize recipes`): each is run on this ranker first."
)


def load_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that ``run`` and ``compare`` share."""
    options = [
        click.option("--requests", type=click.Path(path_type=Path),
                     help="Requests to send (safetensors); by default a ranker's own."),
        click.option("--workload", help="Requests to make up: a name of `bench workloads`, or a "
                     ".toml file."),
        click.option("--candidates", type=int,
                     help="Candidates in each request; by default its own."),
        click.option("--concurrency", type=int, default=1, show_default=True,
                     help="Closed loop: requests under way at once."),
        click.option("--rate", type=float, help="Open loop: arrivals per second."),
        click.option("--arrivals", help="Open loop: poisson, constant, bursts:factor=4,share=0.1, "
                     "ramp:to=RATE or replay:FILE.  [default: poisson]"),
        click.option("--speed", type=float,
                     help="Of a replay, in place of a rate.  [default: 1]"),
        click.option("--count", type=int, help="Requests to send to each target.  [default: 2000]"),
        click.option("--duration", type=float, help="Seconds for each target, instead of a count."),
        click.option("--warmup", type=int, default=100, show_default=True,
                     help="Requests before the clock starts."),
        click.option("--workers", type=int,
                     help="Open loop: requests that can be under way at once."),
        click.option("--threads", type=int,
                     help="Of one call in process.  [default: one for each physical core]"),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu",
                     show_default=True, help="Where targets run."),
        click.option("--seed", type=int, default=0, show_default=True,
                     help="Of the requests' choice and the arrivals."),
        click.option("--out", type=click.Path(path_type=Path), help="Write the measurements here."),
        json_option,
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def open_all(
    specs: Sequence[str],
    opened: ExitStack,
    *,
    threads: int | None,
    device: str,
    ranker: str | None = None,
    **options: Any,
) -> tuple[list[Target], Workload, Load]:
    """Open the targets, draw the workload and read the load, mistakes first."""
    from bench.load_options import choose_workload, read_load
    from bench.targets import open_target

    load = read_load(**options)
    if options["workload"] is not None:
        from bench.workload_recipe import load_recipe

        load_recipe(options["workload"])  # its mistakes are said before targets are opened
    recipes = tuple(specs)
    if ranker is not None:
        from bench.recipes import run_recipes

        specs, own = run_recipes(ranker, recipes)
        if options["requests"] is None and options["workload"] is None:
            options["requests"] = own
    targets = []
    for spec in specs:
        targets.append(open_target(spec, device=device, threads=threads))
        opened.callback(targets[-1].close)
    if ranker is not None:
        from bench.recipes import named_apart

        targets = named_apart(targets, recipes)
    return targets, choose_workload(targets, **options), load


def given_command() -> str:
    """Return the command line that was given."""
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])
