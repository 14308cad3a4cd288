"""What GPUs did while they were measured: clocks, temperature, power, and what slowed them down.

``nvidia-smi`` is left running beside the load and asked twice a second: what slows a GPU down is
gone a moment after the load is. It is a process of its own and sleeps between.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Of `nvidia-smi --help-query-gpu`; these names are still taken by drivers that call the reasons
# clocks_event_reasons.
_REASONS = {
    "clocks_throttle_reasons.hw_slowdown": "hardware slowdown",
    "clocks_throttle_reasons.hw_thermal_slowdown": "heat (hardware)",
    "clocks_throttle_reasons.hw_power_brake_slowdown": "power brake",
    "clocks_throttle_reasons.sw_thermal_slowdown": "heat (driver)",
    "clocks_throttle_reasons.sw_power_cap": "power limit",
}
_FIGURES = {"clocks.sm": "sm_mhz", "temperature.gpu": "celsius", "power.draw": "watts"}
_FIELDS = ("index", *_FIGURES, *_REASONS)
_EVERY_MS = 500


class Watch:
    """What was seen. ``states`` is there once the watch has ended.

    Attributes:
        states: For each GPU: ``index``, ``seen`` (how often), least and most of ``sm_mhz``,
            ``celsius`` and ``watts`` where they are known, and ``slowed``: how often for which
            reason.
    """

    def __init__(self) -> None:
        self.states: tuple[dict[str, Any], ...] = ()


@contextmanager
def watched_gpus(device: str) -> Iterator[Watch]:
    """Watch all GPUs for the length of the block, if the device is one and they can be asked.

    Args:
        device: Of the target, such as ``cpu`` or ``cuda``.
    """
    watch = Watch()
    program = shutil.which("nvidia-smi") if device.startswith("cuda") else None
    if program is None:
        yield watch
        return
    query = f"--query-gpu={','.join(_FIELDS)}"
    child = subprocess.Popen(
        [program, query, "--format=csv,noheader,nounits", f"--loop-ms={_EVERY_MS}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield watch
    finally:
        child.terminate()
        said, _ = child.communicate()
        watch.states = read_states(said)


def read_states(said: str) -> tuple[dict[str, Any], ...]:
    """Read the lines that nvidia-smi wrote; what is not of the form that was asked for is left out.

    Args:
        said: A line for each GPU, again and again, with values of the fields in their order.
    """
    rows = [[value.strip() for value in line.split(",")] for line in said.splitlines()]
    found = [
        _state(dict(zip(_FIELDS, row, strict=True)))
        for row in rows
        if len(row) == len(_FIELDS) and row[0].isdigit()
    ]
    return merge_states([(each,) for each in found])


def merge_states(parts: Sequence[Sequence[dict[str, Any]]]) -> tuple[dict[str, Any], ...]:
    """Join what was seen at several times: one state for each GPU, by its index."""
    joined: dict[int, dict[str, Any]] = {}
    for state in (each for part in parts for each in part):
        before = joined.get(state["index"])
        joined[state["index"]] = state if before is None else _both(before, state)
    return tuple(joined[index] for index in sorted(joined))


def _state(row: dict[str, str]) -> dict[str, Any]:
    figures = {}
    for field, name in _FIGURES.items():
        try:
            figures[name] = [float(row[field])] * 2
        except ValueError:  # [N/A]
            continue
    slowed = {text: 1 for field, text in _REASONS.items() if row[field] == "Active"}
    return {"index": int(row["index"]), "seen": 1, "slowed": slowed} | figures


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    figures = {}
    for name in _FIGURES.values():
        known = [bound for each in (one, other) for bound in each.get(name, ())]
        if known:
            figures[name] = [min(known), max(known)]
    reasons = dict.fromkeys((*one["slowed"], *other["slowed"]))
    slowed = {each: one["slowed"].get(each, 0) + other["slowed"].get(each, 0) for each in reasons}
    seen = one["seen"] + other["seen"]
    return {"index": one["index"], "seen": seen, "slowed": slowed} | figures
