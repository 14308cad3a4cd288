"""``python -m rankers``: the zoo, training, evaluation, and synthetic logs on the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from rankers.command_line import CommandLine, json_option, print_json
from rankers.data.source import SYNTHETIC_ROWS
from rankers.evaluate_command import evaluate
from rankers.train_command import train


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Rankers to try things on, and logs to train them on."""


main.add_command(train)
main.add_command(evaluate)


@main.command("list")
@json_option
def list_rankers(*, as_json: bool) -> None:
    """List the rankers of the zoo."""
    from rankers.zoo.catalogue import ZOO

    if as_json:
        print_json({"rankers": [{"name": name} | asdict(each) for name, each in ZOO.items()]})
        return
    for name, each in ZOO.items():
        click.echo(f"{name:20} {each.about}")


@main.command("make-data")
@click.option("--rows", type=click.IntRange(1), default=SYNTHETIC_ROWS, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--shards", type=click.IntRange(1), help="Write a folder of so many files, not one file."
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@json_option
def make_data(*, rows: int, seed: int, shards: int | None, out: Path, as_json: bool) -> None:
    """Write a synthetic click log as Parquet: whole requests with at least ROWS rows."""
    from rankers.data.parquet import write_parquet, write_shards
    from rankers.data.synthetic import ClickModel

    if shards is None:
        written = write_parquet(out, rows, ClickModel(seed=seed))
    else:
        written = write_shards(out, rows, shards, ClickModel(seed=seed))
    size = sum(each.stat().st_size for each in ([out] if out.is_file() else out.iterdir()))
    if as_json:
        print_json({"out": str(out), "rows": written, "bytes": size})
    else:
        click.echo(f"{out}: {written:,} rows, {size / 1e6:.1f} MB")
