"""``optimize compare``: variants of a ranker by size, latency and quality."""

from __future__ import annotations

from pathlib import Path

import click

from rankers.command_line import json_option, print_json


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path),
                metavar="RUN_OR_ARTIFACT…")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), help="A page, .html, or picture, .svg, .png."
)
@click.option("--metric", help="Whose change is shown  [auc, or ndcg_at_10].")
@click.option("--measure", "seconds", type=click.FloatRange(min=1), metavar="SECONDS",
              help="Measure all in turn now, for about so long; let nothing else run.")  # fmt: skip
@json_option
def compare(
    *,
    folders: tuple[Path, ...],
    out: Path | None,
    metric: str | None,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Compare variants of a ranker by size, latency and quality: which does no other beat?

    Of each run: the original, what it ended in, its branches, and what it dropped. Figures are
    those that runs recorded; what they did not is said.
    """
    from optimize.variants.reading import ranker_name, read_variants
    from optimize.variants.report import (
        check_name,
        chosen_metric,
        reasons,
        variant_tables,
        variants_json,
        write_picture,
    )

    if out is not None:
        check_name(out)
    variants = read_variants(folders)
    shown = chosen_metric(variants, metric)
    if seconds is not None:
        from optimize.variants.measuring import measure_variants

        variants = measure_variants(variants, seconds)
    if out is not None:
        write_picture(out, variants, ranker_name(folders[0]), shown)
    if as_json:
        print_json(variants_json(variants, shown) | {"file": None if out is None else str(out)})
        return
    from bench.printing import print_tables

    print_tables(variant_tables(variants, shown), ())
    for line in reasons(variants):
        click.echo(line)
    if out is not None:
        click.echo(f"{out} written")
