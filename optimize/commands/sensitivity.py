"""``optimize sensitivity``: what each table, layer and field of a ranker is worth."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optimize.option_values import names_in
from rankers.command_line import fail, json_option, print_json

if TYPE_CHECKING:
    from optimize.sensitivity.examine import Options

_ONLY = {"tables": "table", "layers": "layer", "fields": "field"}
_WIDTHS = ("int8", "int4", "fp16", "bf16")


@click.command()
@click.argument("ranker")
@click.option("--out", type=click.Path(path_type=Path), help="A folder for JSON and a picture.")
@click.option("--width", "widths", type=click.Choice(_WIDTHS), multiple=True,
              help="Of tables, once for each  [fp16, int8, int4].")  # fmt: skip
@click.option("--only", default="tables,layers,fields", show_default=True, help="What is tried.")
@click.option("--requests", default=256, type=click.IntRange(min=1), show_default=True,
              help="The most calibration requests that are scored.")  # fmt: skip
@click.option("--min-rows", default=64, type=click.IntRange(min=1), show_default=True,
              help="Tables of fewer rows are left alone.")  # fmt: skip
@click.option("--budget", help="Choose jointly within it: score=0.01, auc=1e-4, ndcg_at_10=1e-3.")
@click.option("--write-recipe", "recipe", type=click.Path(path_type=Path),
              help="Write what the budget chose as a recipe, a .toml file.")  # fmt: skip
@click.option("--measure", "measured_at", type=click.IntRange(min=1), metavar="N",
              help="Measure each layer in int8 at N candidates; let nothing else run.")  # fmt: skip
@json_option
def sensitivity(*, ranker: str, out: Path | None, as_json: bool, **asked: Any) -> None:
    """Tell what each table, layer and field of RANKER is worth: one changed at a time.

    Each embedding table in fewer bits, each dense layer in int8 and with int4 weights, each feature
    with its values dealt out anew; on calibration requests, never on the evaluation. With --budget
    widths and layers are chosen together.
    """
    from optimize.sensitivity.examine import captured_in, examine, write
    from optimize.sensitivity.report import tables
    from rankers.ranker import load_ranker

    options = _options(**asked)
    written = [] if options.recipe is None else [options.recipe]
    # What the module prints must not come between the lines of the JSON object.
    with redirect_stdout(sys.stderr), captured_in(load_ranker(ranker), out) as (captured, store):
        found = examine(captured, options, store, progress=_progress)
        if out is not None:
            written += write(found, out)
    if as_json:
        print_json(found.to_json() | {"files": [str(each) for each in written]})
        return
    from bench.printing import print_tables

    labels = "with labels" if found.labels else "without labels"
    click.echo(f"{found.ranker}: {found.requests} calibration requests, {labels}")
    print_tables(tables(found), ())
    for name, reason in found.left.items():
        click.echo(f"table {name} was left alone: {reason}")
    for path in written:
        click.echo(f"{path} written")


def _options(*, widths: tuple[str, ...], only: str, budget: str | None, **others: Any) -> Options:
    from optimize.sensitivity.budget import parse_budget
    from optimize.sensitivity.examine import Options

    named = names_in(only)
    unknown = [each for each in named if each not in _ONLY]
    if unknown or not named:
        fail(f"--only is {only!r}; expected some of {', '.join(_ONLY)}, separated by commas")
    return Options(
        kinds=tuple(_ONLY[each] for each in _ONLY if each in named),  # type: ignore[misc]
        widths=tuple(dict.fromkeys(widths)) or ("fp16", "int8", "int4"),  # type: ignore[arg-type]
        budget=None if budget is None else parse_budget(budget),
        **others,
    )


def _progress(tried: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[2K{tried}\r", nl=False, err=True)
