"""Variants as a table, a page, or a picture alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.chapters import Chapter
from bench.tables import Table, number_text
from optimize.variants.picture import variants_picture
from optimize.variants.variant import loads_of, standings
from rankers.errors import UserError
from rankers.metrics import check_metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from optimize.variants.variant import Standing, Variant
    from rankers.intervals import Interval

_USUAL = ("auc", "ndcg_at_10")
_UNIT = 1e-4
_RECORDED = "not measured"


def chosen_metric(variants: Sequence[Variant], asked: str | None) -> str:
    """Return whose change is shown: what was asked for, or the first usual one on record.

    Raises:
        UserError: It is not on record.
    """
    recorded = list(dict.fromkeys(name for each in variants for name in each.quality))
    if asked is not None:
        check_metric(asked)
        if asked not in recorded:
            raise UserError(
                f"no gate judged {asked!r} in these runs; there are "
                f"{', '.join(recorded) or 'none at all'}"
            )
        return asked
    return next((name for name in _USUAL if name in recorded), recorded[0] if recorded else "auc")


def variant_tables(variants: Sequence[Variant], metric: str) -> list[Table]:
    """Return a table for each load under which p50s are on record; one if there is none."""
    return [_table(standings(variants, metric, load), metric, load) for load in _loads(variants)]


def variants_json(variants: Sequence[Variant], metric: str) -> dict[str, Any]:
    """Return variants, and how they stand under each load, as JSON-ready data."""
    return {
        "metric": metric,
        "variants": [each.to_json() for each in variants],
        "standings": [
            {
                "load": load,
                "variants": {
                    each.variant.name: {
                        "outcome": each.outcome,
                        "beaten_by": each.beaten_by,
                        "missing": list(each.missing),
                    }
                    for each in standings(variants, metric, load)
                },
            }
            for load in _loads(variants)
        ],
    }


def write_picture(path: Path, variants: Sequence[Variant], ranker: str, metric: str) -> None:
    """Write a page (``.html``), or the picture of the load with most p50s (``.svg``, ``.png``).

    Raises:
        UserError: The file's name ends in something else.
    """
    from bench.html_report import html_page
    from rankers.files import write_atomically

    loads = _loads(variants)
    if path.suffix == ".html":
        title = f"{ranker}: size, latency, quality"
        write_atomically(path, html_page(title, [*_chapters(variants, ranker, metric)]))
        return
    picture = variants_picture(standings(variants, metric, loads[0]), ranker, metric, loads[0])
    write_atomically(
        path, picture.svg_file() if path.suffix == ".svg" else picture.png("light", {})
    )


def check_name(path: Path) -> None:
    """Check that `write_picture` knows what is wanted.

    Raises:
        UserError: It does not.
    """
    if path.suffix not in {".html", ".svg", ".png"}:
        raise UserError(f"--out is {str(path)!r}; expected a name that ends in .html, .svg or .png")


def reasons(variants: Sequence[Variant]) -> list[str]:
    """Return why variants were dropped or failed, or what else a run said of them, a line each."""
    return [
        f"{each.name}: {each.state}: {each.reason.removeprefix(f'{each.name}: ')}"
        for each in variants
        if each.reason
    ]


def _loads(variants: Sequence[Variant]) -> list[str | None]:
    """Return the loads to show: those that at least two variants have a p50 of."""
    found = [load for load in loads_of(variants) if sum(load in x.p50_ms for x in variants) > 1]
    return [*found] or [None]


def _chapters(variants: Sequence[Variant], ranker: str, metric: str) -> Iterator[Chapter]:
    for load in _loads(variants):
        judged = standings(variants, metric, load)
        yield Chapter(
            title="No p50 is on record" if load is None else f"p50: {load}",
            measurements=(),
            tables=(_table(judged, metric, load),),
            pictures=(variants_picture(judged, ranker, metric, load),),
            texts=(*_texts(judged, metric), *reasons(variants)),
        )


def _texts(judged: Sequence[Standing], metric: str) -> Iterator[str]:
    front = [each.variant.name for each in judged if each.outcome == "on the front"]
    if front:
        yield f"On the front: {', '.join(front)}."
    for each in judged:
        if each.outcome == "beaten":
            yield (
                f"{each.variant.name} is beaten by {each.beaten_by}, which is no larger, no slower "
                f"and no worse in {metric}."
            )
        for load, reason in each.variant.void.items():
            yield f"The measurement of {each.variant.name} ({load}) is void: {reason}."


def _table(judged: Sequence[Standing], metric: str, load: str | None) -> Table:
    p50 = () if load is None else ("p50, ms",)
    return Table(
        title="Variants" if load is None else f"Variants: {load}",
        columns=("variant", "size", *p50, f"Δ{metric}, 1e-4", "gates", "standing"),
        rows=tuple(
            (
                each.variant.name,
                _size_text(each.variant.model_bytes),
                *(() if load is None else (_p50_text(each.variant, load),)),
                _change_text(each.variant.quality.get(metric)),
                each.variant.state,
                each.text,
            )
            for each in judged
        ),
        note="Figures are those on record; p50s of different runs were measured at different "
        "times. Changes are from the original, with 95 % intervals.",
    )


def _size_text(size: int | None) -> str:
    return _RECORDED if size is None else f"{number_text(size / 1e6)} MB"


def _p50_text(variant: Variant, load: str) -> str:
    if load not in variant.p50_ms:
        return _RECORDED
    return number_text(variant.p50_ms[load]) + (" (void)" if load in variant.void else "")


def _change_text(change: Interval | None) -> str:
    if change is None:
        return _RECORDED
    if change.estimate == change.low == change.high == 0:
        return "0"
    value, low, high = (f"{x / _UNIT:+.2g}" for x in (change.estimate, change.low, change.high))
    return f"{value} ({low} to {high})"
