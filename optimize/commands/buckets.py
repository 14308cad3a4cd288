"""``optimize buckets``: which candidate buckets pad least for a workload."""

from __future__ import annotations

import click

from rankers.command_line import json_option, print_json


@click.command()
@click.argument("workload")
@click.option("--count", default=6, show_default=True, help="How many buckets at most.")
@click.option("--multiple", default=8, show_default=True, help="Sizes are multiples of it.")
@click.option("--greatest", type=int, help="The largest bucket; by default the largest request.")
@json_option
def buckets(
    *, workload: str, count: int, multiple: int, greatest: int | None, as_json: bool
) -> None:
    """Choose the candidate buckets that pad least for WORKLOAD.

    WORKLOAD is a name of `python -m bench workloads` or a .toml file. The choice is exact. Buckets
    are for CUDA graphs, TensorRT profiles and warm-ups.
    """
    from optimize.buckets import choose_buckets, padding_waste, workload_histogram

    histogram = workload_histogram(workload)
    chosen = choose_buckets(histogram, count, multiple=multiple, greatest=greatest)
    waste = padding_waste(chosen, histogram)
    if as_json:
        profiles = [dict(zip(("min", "opt", "max"), each, strict=True)) for each in chosen.ranges()]
        print_json({"sizes": list(chosen.sizes), "profiles": profiles} | waste.to_json())
        return
    for (low, _, high), share in zip(chosen.ranges(), waste.share.values(), strict=True):
        click.echo(f"{high:6}  {low} to {high} candidates, {share:.1%} of the runs")
    click.echo(f"{waste.of_computed:.1%} of the rows computed are padding")
