"""``python -m rankers train``: from a name in the zoo and a log to a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankers.command_line import json_option, print_json
from rankers.data.source import SYNTHETIC, data_key, open_log
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

CURVE = "learning-curve.svg"

_DATA_HELP = """\
What to train on: `synthetic` (the ranker's own log) or `synthetic:KIND`; a file of Criteo's,
Avazu's, Amazon's reviews, graded documents (SVMlight) or MS MARCO's qrels, top1000 or triples,
plain or .gz; a folder of MovieLens or MS MARCO; a .toml schema of any table, also of a folder of
Parquet shards larger than memory; or what make-data
wrote."""


@click.command()
@click.argument("name")
@click.option(
    "--data", default=SYNTHETIC, show_default=True, metavar="synthetic|PATH", help=_DATA_HELP
)
@click.option(
    "--rows",
    type=click.IntRange(1),
    help="Rows to draw (by default as many as the ranker needs), or to read at most.",
)
@click.option(
    "--size",
    default="small",
    show_default=True,
    type=click.Choice(["small", "published"]),
    help="Of the ranker's layers.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="OPTION=VALUE",
    help="An option of the ranker, its value in JSON: --set embedding=16.",
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the log, at most.")
@click.option("--batch-rows", type=click.IntRange(1), help="Rows of one step.")
@click.option("--learning-rate", type=float, help="Of the dense layers, at the start.")
@click.option("--loss", help="pointwise, pairwise (LambdaRank) or listwise.")
@click.option(
    "--metric",
    help="What tells a better epoch: auc, gauc, ndcg_at_10, mrr_at_5, recall_at_20, logloss, …",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    help="Stop after so many epochs without a better metric on validation requests.",
)
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the forward pass.",
)
@click.option(
    "--compile",
    "backend",
    default="",
    metavar="BACKEND",
    help="Compile with torch.compile, such as inductor.",
)
@click.option(
    "--buffer-rows",
    type=click.IntRange(1),
    help="Of Parquet shards: rows that each process holds to draw batches from (1,200,000).",
)
@click.option(
    "--workers", type=click.IntRange(0), help="Of Parquet shards: processes that read ahead (0)."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--save-every",
    type=float,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How often an unfinished training is saved; the same command goes on from it.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoint folder.")
@click.option("--force", is_flag=True, help="Replace another checkpoint at --out.")
@json_option
def train(
    *, name: str, data: str, rows: int | None, size: str, settings: tuple[str, ...], seed: int,
    backend: str, save_every: float, out: Path, force: bool, as_json: bool, **chosen: Any,
) -> None:  # fmt: skip
    """Train the ranker NAME and write a checkpoint.

    A checkpoint that the same command made is kept as it is; a training that was interrupted goes
    on. Under torchrun several processes train together.
    """
    from rankers.checkpoint import describe_checkpoint, load_checkpoint, save_checkpoint
    from rankers.zoo import entry_of, train_zoo, training_options

    entry = entry_of(name)
    if data == SYNTHETIC:
        data, rows = f"{SYNTHETIC}:{entry.log}", rows or entry.rows
    overrides = _settings(settings)
    changes = {key: value for key, value in chosen.items() if value is not None}
    options = training_options(name, seed=seed, compile=backend, **changes)
    recipe = {"data": data_key(data), "rows": rows, "size": size, "set": overrides, "seed": seed}
    recipe |= {"compile": backend} | {k: v for k, v in changes.items() if k != "workers"}
    if not _wanted(out, name, recipe, force=force):
        load_checkpoint(out)  # compares the checksums
        _report(out, describe_checkpoint(out)["training"], as_json=as_json, kept=True)
        return
    log = open_log(data, rows=rows, seed=seed)
    ranker, module_options, training = train_zoo(
        name, log, options, size=size, overrides=overrides,
        resume=out.with_name(f"{out.name}.unfinished"), save_every_s=save_every,
    )  # fmt: skip
    from rankers.data.encode import SCHEMA
    from rankers.training.curve import learning_curve_svg
    from rankers.training.distributed import share_of_environment

    if share_of_environment().rank > 0:
        return  # the first process writes for all
    summary = training.to_json() | {"recipe": recipe}
    beside = {CURVE: learning_curve_svg(training, f"{name} on {data}")}
    if Path(data).suffix == ".toml":
        beside[SCHEMA] = Path(data).read_text()  # for rankers.data.encode, where it is served
    save_checkpoint(out, ranker, module_options, summary, replace=force, beside=beside)
    _report(out, summary, as_json=as_json, kept=False)


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            found[key] = json.loads(value)
        except ValueError as error:
            raise UserError(f"--set {text}: expected OPTION=VALUE with a value in JSON") from error
    return found


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
    metric, found = training["options"]["metric"], training["quality"]
    names = dict.fromkeys([metric, "auc", "gauc"])
    line = f"{out}: " + ", ".join(f"{name} {_number(found[name])}" for name in names)
    if training["closed"] is not None:
        best = training["best"][metric]
        line += f" (best reachable {metric} {best:.4f}, {training['closed']:.0%} closed)"
    epochs = len(training["epochs"])
    line += f", {training['rows']:,} rows, {epochs} epoch(s) in {training['seconds']:.0f} s"
    if training["kept"] != epochs - 1:
        line += f"; kept epoch {training['kept'] + 1}"
    click.echo(line)
    if kept:
        click.echo("kept: the same command made it before")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
