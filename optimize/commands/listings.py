"""``optimize stages`` and ``optimize recipes``: what there is to choose from."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from rankers.command_line import json_option, print_json


@click.command()
@json_option
def stages(as_json: bool) -> None:
    """List the stages with their options."""
    from optimize.stages import STAGES, stage_class

    described = []
    for name in STAGES:
        kind = stage_class(name)
        described.append(
            {
                "name": name,
                "consumes": kind.consumes,
                "produces": kind.produces,
                "needs": list(kind.needs),
                "summary": (kind.__doc__ or "").splitlines()[0],
                "options": {
                    each.name: {"default": _default(each), "help": each.metadata.get("help", "")}
                    for each in dataclasses.fields(kind)
                },
            }
        )
    if as_json:
        print_json({"stages": described})
        return
    for each in described:
        click.echo(f"{each['name']}  ({each['consumes']} → {each['produces']})  {each['summary']}")
        for option, about in each["options"].items():
            click.echo(f"    {option} = {about['default']!r}  {about['help']}")


def _default(option: dataclasses.Field[Any]) -> Any:
    made = option.default_factory
    return option.default if made is dataclasses.MISSING else made()


@click.command()
@json_option
def recipes(as_json: bool) -> None:
    """List the built-in recipes."""
    from optimize.recipe import built_in_recipes, load_recipe

    loaded = [load_recipe(name) for name in built_in_recipes()]
    if as_json:
        listed: list[dict[str, Any]] = [
            {
                "name": each.name,
                "description": each.description,
                "stages": [use.name for use in each.stages],
                "branches": {one.name: [use.name for use in one.stages] for one in each.branches},
                "gates": each.gates_json(),
                "gates_of_branches": {
                    one.name: one.gates.to_json() for one in each.branches if one.gates is not None
                },
            }
            for each in loaded
        ]
        print_json({"recipes": listed})
        return
    for each in loaded:
        click.echo(f"{each.name}  {each.description}")
        if each.stages:
            click.echo(f"    {' → '.join(use.name for use in each.stages)}")
        for one in each.branches:
            own = " (gates of its own)" if one.gates is not None else ""
            click.echo(f"    {one.name}: {' → '.join(use.name for use in one.stages)}{own}")
