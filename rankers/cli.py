"""``python -m rankers``: the zoo, training, evaluation, and synthetic logs on the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from rankers.command_line import CommandLine, json_option, print_json
from rankers.data.source import SYNTHETIC_ROWS
from rankers.errors import UserError
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
@click.option(
    "--log",
    default="clicks",
    show_default=True,
    type=click.Choice(["clicks", "texts"]),
    help="clicks on items, or searches with the texts of queries and documents.",
)
@click.option(
    "--form",
    type=click.Choice(["text", "tokens"]),
    help="Of texts: MS MARCO's files (default), or a table of token IDs with its tokenizer.",
)
@click.option("--rows", type=click.IntRange(1), default=SYNTHETIC_ROWS, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--shards",
    type=click.IntRange(1),
    help="Write clicks as a folder of so many files, not as one file.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A file; of texts and shards, a new folder.",
)
@json_option
def make_data(
    *, log: str, form: str | None, rows: int, seed: int, shards: int | None, out: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Write a synthetic log: whole requests with at least ROWS rows.

    Clicks become Parquet.
    """
    if log == "clicks":
        written = _make_clicks(out, rows, seed, form=form, shards=shards)
    else:
        from rankers.data.synthetic_text import TextModel
        from rankers.data.text_files import write_texts, write_tokens

        if shards is not None:
            raise UserError(f"--shards {shards}: is of --log clicks")
        write = write_tokens if form == "tokens" else write_texts
        written = write(out, rows, TextModel(seed=seed))
    size = sum(each.stat().st_size for each in ([out] if out.is_file() else out.iterdir()))
    if as_json:
        print_json({"out": str(out), "rows": written, "bytes": size})
    else:
        click.echo(f"{out}: {written:,} rows, {size / 1e6:.1f} MB")


def _make_clicks(out: Path, rows: int, seed: int, *, form: str | None, shards: int | None) -> int:
    from rankers.data.parquet import write_parquet, write_shards
    from rankers.data.synthetic import ClickModel

    if form is not None:
        raise UserError(f"--form {form}: is of --log texts; clicks are written as Parquet")
    if shards is not None:
        return write_shards(out, rows, shards, ClickModel(seed=seed))
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file to write")
    return write_parquet(out, rows, ClickModel(seed=seed))
