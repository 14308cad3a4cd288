"""``python -m rankers evaluate``: what a ranker is worth, on slices and beside another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankers.command_line import json_option, print_json
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.evaluation import Scored
    from rankers.ranker import Ranker
    from rankers.requests import RequestBatch

PICTURE, NUMBERS = "reliability.svg", "evaluation.json"


def _cutoffs(_context: Any, _option: Any, text: str) -> tuple[int, ...]:
    parts = [each.strip() for each in text.split(",")]
    if not all(each.isdecimal() and int(each) > 0 for each in parts):
        raise click.BadParameter(f"{text!r}: expected whole numbers from 1, such as 1,5,10")
    return tuple(dict.fromkeys(int(each) for each in parts))


@click.command()
@click.argument("spec", metavar="RANKER")
@click.option(
    "--data", metavar="PATH", help="Labelled requests, as for train; by default the held-out ones."
)
@click.option("--rows", type=click.IntRange(1), help="Rows of --data to read at most.")
@click.option(
    "--k",
    "cutoffs",
    default="10",
    show_default=True,
    callback=_cutoffs,
    help="Of NDCG@k, MRR@k and recall@k: 1,5,10.",
)
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="SLICE",
    help="rare, cold, long (by default those that the features allow), each with :FEATURE and <N "
    "or <N% (long: >=N) if wanted; few, many; FEATURE=VALUE, FEATURE=LOW..HIGH, "
    "FEATURE=90%..100%; or none.",
)
@click.option("--against", metavar="RANKER", help="A ranker to compare with on the same requests.")
@click.option(
    "--resamples",
    type=click.IntRange(20),
    default=1000,
    show_default=True,
    help="How often requests are drawn anew for the intervals.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help=f"Folder for {PICTURE} and {NUMBERS}.",
)  # fmt: skip
@json_option
def evaluate(
    *, spec: str, data: str | None, rows: int | None, cutoffs: tuple[int, ...],
    slices: tuple[str, ...], against: str | None, resamples: int, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Judge the ranker RANKER on labelled requests and on slices of them.

    RANKER is file.py:function, package.module:function, a checkpoint folder or a name in the zoo.
    Intervals are of a bootstrap over requests, paired where two rankers are compared.
    """
    from rankers.evaluation import cut_slice, judge_slice, score_evaluation, usual_slices
    from rankers.evaluation.report import evaluation_table
    from rankers.ranker import load_ranker

    ranker = load_ranker(spec)
    other = None if against is None else load_ranker(against)
    requests = _requests(ranker, data, rows)
    wanted = slices or usual_slices(ranker.signature)
    parts = [
        cut_slice(each, requests, ranker.signature, ranker.seen)
        for each in wanted
        if each != "none"
    ]
    scored = score_evaluation(ranker, requests, other)
    judged = [judge_slice(scored, part, cutoffs, resamples=resamples) for part in (None, *parts)]
    found: dict[str, Any] = {
        "ranker": ranker.name,
        "spec": spec,
        "data": data,
        "against": against,
        "resamples": resamples,
        "slices": [each.to_json() for each in judged],
    }
    if out is not None:
        found["reliability"] = _write(out, found, scored, _names(spec, against), resamples)
    if as_json:
        print_json(found)
        return
    click.echo(evaluation_table(judged, against=against))
    if out is not None and found["reliability"] is not None:
        click.echo(f"{out / PICTURE}: the reliability plot")


def _requests(ranker: Ranker, data: str | None, rows: int | None) -> RequestBatch:
    if data is None:
        if rows is not None:
            raise UserError("--rows is of --data; the held-out requests are judged whole")
        return ranker.evaluation
    from rankers.data.source import read_log

    requests = read_log(data, rows=rows).requests
    try:
        requests.check(ranker.signature)
    except UserError as error:
        raise UserError(f"{data}: is not for ranker {ranker.name!r}: {error}") from error
    return requests


def _names(spec: str, against: str | None) -> Sequence[str]:
    """Return what the rankers are called in the picture: short, and different."""
    names = [Path(each).name for each in (spec, against) if each is not None]
    return (
        names if len(set(names)) == len(names) else [f"{x} ({n})" for n, x in enumerate(names, 1)]
    )


def _write(
    out: Path, data: dict[str, Any], scored: Scored, names: Sequence[str], resamples: int
) -> dict[str, Any] | None:
    """Write the picture and the numbers; return the picture's."""
    from rankers.evaluation.reliability import reliability, reliability_svg
    from rankers.files import write_atomically

    bins = None
    if scored.kind == "relevance":
        click.echo("no reliability plot: scores of kind relevance are no probabilities", err=True)
    else:
        labels, offsets = scored.requests.labels, scored.requests.offsets
        assert labels is not None  # noqa: S101 - checked when they were scored
        both = [scored.scores, *([] if scored.against is None else [scored.against])]
        curves = {
            name: reliability(scores, labels, offsets, scored.kind, resamples=resamples)
            for name, scores in zip(names, both, strict=True)
        }
        write_atomically(out / PICTURE, reliability_svg(curves, f"reliability of {names[0]}"))
        bins = {name: [each.to_json() for each in found] for name, found in curves.items()}
    text = json.dumps(data | {"reliability": bins}, indent=2, allow_nan=False)
    write_atomically(out / NUMBERS, text + "\n")
    return bins
