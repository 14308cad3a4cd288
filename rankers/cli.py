"""``python -m rankers``: make data and train rankers of the zoo."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from rankers.command_line import CommandLine, json_option, print_json
from rankers.errors import UserError, nearest


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rankserve", prog_name="rankserve")
def main() -> None:
    """Make click logs and train rankers of the zoo."""


@main.command(name="list")
@json_option
def list_zoo(as_json: bool) -> None:
    """List the rankers of the zoo."""
    from rankers.zoo import ZOO

    if as_json:
        print_json({"rankers": sorted(ZOO)})
    else:
        for name in sorted(ZOO):
            click.echo(name)


@main.command()
@click.argument("name")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A Criteo file (TSV or CSV, gzipped or not) or Parquet of make-data.  [default: drawn]",
)
@click.option("--rows", type=int, help="Of the drawn log.  [default: 400000]")
@click.option("--epochs", type=int, help="Passes over the log.  [default: 2]")
@click.option("--split", type=click.Choice(["time", "request"]), help="What is held out.")
@click.option("--seed", type=int, help="Of everything that is drawn.  [default: 0]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The checkpoint.")
@click.option("--force", is_flag=True, help="Replace what is at --out.")
@json_option
def train(name: str, *, out: Path, force: bool, as_json: bool, **given: Any) -> None:
    """Train the ranker NAME of the zoo."""
    from rankers.zoo import ZOO

    if name not in ZOO:
        raise UserError(f"no ranker {name!r} in the zoo; {nearest(name, ZOO)}")
    if out.exists() and not force:
        raise UserError(f"{out} is there already: choose another --out, or --force to replace it")
    from rankers.training import TrainingOptions, train_checkpoint

    chosen = {key: value for key, value in given.items() if value is not None}
    options = TrainingOptions(ranker=name, **chosen)
    aside = out.with_name(f".{out.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    report = train_checkpoint(options, aside, say=lambda line: click.echo(line, err=True))
    if out.exists():
        shutil.rmtree(out)
    aside.rename(out)
    if as_json:
        print_json({"checkpoint": str(out)} | report)
        return
    line = f"{out}: held-out AUC {report['auc']:.4f}"
    if report["best_auc"] is not None:
        line += (
            f", {report['share_closed']:.0%} of the way from 0.5 to the best reachable "
            f"{report['best_auc']:.4f}"
        )
    click.echo(line)


@main.command(name="make-data")
@click.option("--rows", type=click.IntRange(min=1), default=400_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A .parquet file.")
@json_option
def make_data(rows: int, seed: int, out: Path, as_json: bool) -> None:
    """Draw a synthetic click log of whole requests, with at least --rows candidates."""
    from rankers.data.synthetic import ClickModel, write_parquet

    written = write_parquet(ClickModel(seed=seed).blocks(rows), out)
    if as_json:
        print_json({"file": str(out), "rows": written})
    else:
        click.echo(f"{out}: {written:,} rows")
