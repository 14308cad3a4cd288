"""Forms for many tables at once: the bytes that all may take, where they are worth most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Form:
    """What a table may become.

    Attributes:
        bytes: It then has.
        error: That it then adds to scores, a mean square.
        size: Its rank, or its number of remainders; 0 as it is.
    """

    bytes: int
    error: float
    size: int


def least_bytes(forms: Mapping[str, Sequence[Form]]) -> int:
    """Return the fewest bytes that all tables can take together."""
    return sum(min(each.bytes for each in some) for some in forms.values())


def allocate(forms: Mapping[str, Sequence[Form]], budget: float) -> dict[str, Form]:
    """Choose a form for each table, of the least sum of errors within a budget of bytes.

    Steps are taken from the most bytes down, those first that add least error for a byte, along the
    lower hull of each table's forms; what the last step saves too much is given back where it
    takes most error away. Errors of tables are taken to add up.

    Args:
        forms: By table; one of them is the table as it is.
        budget: Bytes; at least `least_bytes`.
    """
    hulls = {name: _hull(some) for name, some in forms.items()}
    place = dict.fromkeys(hulls, 0)
    total = sum(hull[0].bytes for hull in hulls.values())
    while total > budget:
        name = min(place, key=lambda each: _price(hulls[each], place[each]))
        now, then = hulls[name][place[name] : place[name] + 2]
        total -= now.bytes - then.bytes
        place[name] += 1
    chosen = {name: hull[place[name]] for name, hull in hulls.items()}
    while better := _better(forms, chosen, budget - total):
        name, form = better
        total += form.bytes - chosen[name].bytes
        chosen[name] = form
    return chosen


def _better(
    forms: Mapping[str, Sequence[Form]], chosen: Mapping[str, Form], spare: float
) -> tuple[str, Form] | None:
    """Return the change that takes most error away and takes no more than the spare bytes."""
    fitting = [
        (chosen[name].error - each.error, name, each)
        for name, some in forms.items()
        for each in some
        if each.bytes - chosen[name].bytes <= spare and each.error < chosen[name].error
    ]
    if not fitting:
        return None
    _, name, form = max(fitting, key=lambda each: each[:2])
    return name, form


def _hull(forms: Sequence[Form]) -> list[Form]:
    """Return the forms on the lower hull of errors over bytes, from the least error down."""
    found: list[Form] = []
    for each in sorted(forms, key=lambda form: (form.error, form.bytes)):
        if found and each.bytes >= found[-1].bytes:
            continue
        while len(found) > 1 and _slope(found[-2], found[-1]) >= _slope(found[-2], each):
            found.pop()
        found.append(each)
    return found


def _price(hull: Sequence[Form], place: int) -> float:
    return math.inf if place + 1 == len(hull) else _slope(hull[place], hull[place + 1])


def _slope(one: Form, other: Form) -> float:
    return (other.error - one.error) / (one.bytes - other.bytes)
