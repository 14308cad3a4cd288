"""``python -m rankers``: the zoo, training, and synthetic logs on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from rankers.command_line import CommandLine, json_option, print_json
from rankers.data.source import SYNTHETIC, SYNTHETIC_ROWS, data_key, read_log
from rankers.errors import UserError


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Rankers to try things on, and logs to train them on."""


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


@main.command()
@click.argument("name")
@click.option(
    "--data",
    default=SYNTHETIC,
    show_default=True,
    metavar="synthetic|FILE",
    help="A file of Criteo's (TSV, or CSV with a header; .gz too), or what make-data wrote.",
)
@click.option(
    "--rows", type=click.IntRange(1), help="Rows to draw (400,000 by default), or to read at most."
)
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoint folder.")
@click.option("--force", is_flag=True, help="Replace another checkpoint at --out.")
@json_option
def train(
    *,
    name: str,
    data: str,
    rows: int | None,
    epochs: int,
    seed: int,
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Train the ranker NAME and write a checkpoint.

    A checkpoint that the same command made is kept as it is.
    """
    from rankers.checkpoint import describe_checkpoint, load_checkpoint, save_checkpoint
    from rankers.zoo import entry_of, train_zoo, training_options

    entry = entry_of(name)
    if data == SYNTHETIC:
        data, rows = f"{SYNTHETIC}:{entry.log}", rows or entry.rows
    recipe = {"data": data_key(data), "rows": rows, "epochs": epochs, "seed": seed}
    if not _wanted(out, name, recipe, force=force):
        load_checkpoint(out)  # compares the checksums
        description = describe_checkpoint(out)
        _report(out, description["training"], as_json=as_json, kept=True)
        return
    log = read_log(data, rows=rows, seed=seed)
    wanted = training_options(name, epochs=epochs, seed=seed)
    ranker, options, training = train_zoo(name, log, wanted)
    summary = training.to_json() | {"recipe": recipe}
    save_checkpoint(out, ranker, options, summary, replace=force)
    _report(out, summary, as_json=as_json, kept=False)


@main.command("make-data")
@click.option("--rows", type=click.IntRange(1), default=SYNTHETIC_ROWS, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@json_option
def make_data(*, rows: int, seed: int, out: Path, as_json: bool) -> None:
    """Write a synthetic click log as Parquet: whole requests with at least ROWS rows."""
    from rankers.data.parquet import write_parquet
    from rankers.data.synthetic import ClickModel

    written = write_parquet(out, rows, ClickModel(seed=seed))
    if as_json:
        print_json({"out": str(out), "rows": written, "bytes": out.stat().st_size})
    else:
        click.echo(f"{out}: {written:,} rows, {out.stat().st_size / 1e6:.1f} MB")


def _wanted(out: Path, name: str, recipe: dict[str, Any], *, force: bool) -> bool:
    """Return whether to train: not if the same command has filled ``out``.

    Raises:
        UserError: Something else is there.
    """
    from rankers.checkpoint import DESCRIPTION, describe_checkpoint

    if not out.exists():
        return True
    if not (out / DESCRIPTION).is_file():
        raise UserError(f"{out} exists and is no checkpoint; choose another --out")
    if force:
        return True
    made = describe_checkpoint(out)
    if made["name"] == name and made["training"].get("recipe") == recipe:
        return False
    was = json.dumps(made["training"].get("recipe"))
    raise UserError(
        f"{out} holds another checkpoint ({made['name']}, {was}); choose another --out, or replace "
        "it with --force"
    )


def _report(out: Path, training: dict[str, Any], *, as_json: bool, kept: bool) -> None:
    if as_json:
        print_json({"out": str(out), "kept": kept, "training": training})
        return
    found = training["quality"]
    line = f"{out}: AUC {_number(found['auc'])}, GAUC {_number(found['gauc'])}"
    if training["closed"] is not None:
        line += f" (best reachable AUC {training['best_auc']:.4f}, {training['closed']:.0%} closed)"
    click.echo(f"{line}, {training['rows']:,} rows in {training['seconds']:.0f} s")
    if kept:
        click.echo("kept: the same command made it before")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
