"""Whether a TensorRT engine runs where it is to serve: its version and its GPU, rule by rule.

Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-compatibility.html
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rankers.errors import UserError

Hardware = Literal["none", "same_compute_capability", "ampere_plus"]
_AMPERE = (8, 0)
_CAPABILITY = "compute capability"
# Across majors NVIDIA supports these alone: built by the first, run by the second.
_ACROSS_MAJORS = {(8, 10), (10, 11)}


@dataclass(frozen=True, slots=True)
class Target:
    """Where an engine was built, or is to run.

    Attributes:
        tensorrt: Its version, such as ``10.9.0.34``; empty if unknown.
        gpu: Its name, such as ``NVIDIA H200``; empty if unknown.
        compute_capability: Such as ``9.0``; empty if unknown.
    """

    tensorrt: str = ""
    gpu: str = ""
    compute_capability: str = ""

    def __post_init__(self) -> None:
        for name in ("tensorrt", "compute_capability"):
            value = getattr(self, name)
            if value and not all(part.isdigit() for part in value.split(".")):
                raise UserError(f"{name} is {value!r}; expected numbers, such as 10.9 or 9.0")

    def to_json(self) -> dict[str, Any]:
        """Return the target as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Promise:
    """What an engine was built to bear.

    Attributes:
        version_compatible: It carries a lean runtime, and later versions run it.
        hardware: ``none``: the model of GPU it was built on. ``same_compute_capability``, or
            ``ampere_plus``: every GPU from Ampere on.
    """

    version_compatible: bool = False
    hardware: Hardware = "none"


Check = tuple[str, bool, str]


def compare(built: Target, promise: Promise, target: Target, *, least: str = "") -> list[Check]:
    """Hold an engine against where it is to run; what is unknown of the target is not checked.

    Args:
        built: Where it was built.
        promise: What it was built to bear.
        target: Where it is to run.
        least: The compute capability that its products need; empty if any will do.

    Returns:
        For each check its name, whether it passed, and what was found.
    """
    checks = []
    if target.tensorrt:
        checks.append(_version(built.tensorrt, target.tensorrt, promise))
    if target.compute_capability:
        checks.append(_capability(built, target, promise, least))
    if target.gpu:
        checks.append(_gpu(built, target, promise))
    return checks


def reaches(target: Target, least: str) -> Check:
    """Check whether a GPU multiplies what needs a compute capability, such as 8.9."""
    if not target.compute_capability:
        return (_CAPABILITY, True, f"an engine of it needs {least} or more (fp8)")
    passed = _numbers(target.compute_capability) >= _numbers(least)
    advice = "" if passed else ": take int8 or fp16 there"
    said = f"fp8 needs {least} or more, the target has {target.compute_capability}{advice}"
    return (_CAPABILITY, passed, said)


def refuse_to_build(least: str, target: Target, hardware: Hardware) -> None:
    """Raise unless an engine whose products need a compute capability can be built for GPUs.

    Args:
        least: Such as ``8.9``; empty if any will do.
        target: Where it would be built.
        hardware: Which other GPUs it would have to run on.

    Raises:
        UserError: It cannot; the message says why, in a line.
    """
    if not least:
        return
    _, passed, said = reaches(target, least)
    if not passed:
        raise UserError(f"no engine of this graph is built on {target.gpu}: {said}")
    if hardware == "ampere_plus":
        raise UserError(
            f"hardware is 'ampere_plus', every GPU from 8.0 on, and this graph is in fp8, which "
            f"needs {least}: take 'same_compute_capability' or 'none'"
        )


def _version(built: str, target: str, promise: Promise) -> Check:
    mine, theirs = _numbers(built), _numbers(target)
    said = f"built by {built}, the target has {target}"
    if not promise.version_compatible:
        # A target may be given as 10.9: what it does not say is not compared.
        same = mine[: len(theirs)] == theirs
        advice = "" if same else ": a plan runs on the version that built it alone; build it there"
        return ("TensorRT", same, said + advice)
    across = (mine[0], theirs[0]) in _ACROSS_MAJORS
    later = mine[0] == theirs[0] and theirs >= mine[: len(theirs)]
    passed = across or later
    advice = "; version-compatible" if passed else ": it runs on later versions of its major alone"
    return ("TensorRT", passed, said + advice)


def _capability(built: Target, target: Target, promise: Promise, least: str) -> Check:
    if least and not reaches(target, least)[1]:
        return reaches(target, least)
    said = f"built for {built.compute_capability}, the target has {target.compute_capability}"
    if promise.hardware == "ampere_plus":
        passed = _numbers(target.compute_capability) >= _AMPERE
        return (_CAPABILITY, passed, f"{said}; any from 8.0 will do")
    same = _numbers(built.compute_capability) == _numbers(target.compute_capability)
    return (_CAPABILITY, same, said + ("" if same else ": build it on that GPU"))


def _gpu(built: Target, target: Target, promise: Promise) -> Check:
    said = f"built on {built.gpu}, the target is {target.gpu}"
    if promise.hardware != "none":
        return ("GPU", True, f"{said}; built to run on others ({promise.hardware})")
    same = _words(built.gpu) == _words(target.gpu)
    advice = "" if same else ": its kernels were chosen for the other; build it there"
    return ("GPU", same, said + advice)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _words(name: str) -> list[str]:
    return [each for each in name.lower().split() if each != "nvidia"]
