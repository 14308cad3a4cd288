"""The instruction sets that an artifact was made for, held against this CPU.

Machine code, layouts and roundings made for one CPU crash, or score otherwise, on another. So what
an artifact needs is in its manifest, and no runtime opens it where that is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankers.errors import UserError

if TYPE_CHECKING:
    from optimize.artifact import Artifact, Manifest

ISA = "isa"  # the manifest's requirement: names of /proc/cpuinfo, with blanks between


def instruction_sets() -> tuple[str, ...]:
    """Return those of this CPU that decide which kernels run, as /proc/cpuinfo names them."""
    from bench.environment import environment

    return environment().isa


def missing_instruction_sets(manifest: Manifest) -> list[str]:
    """Return what the artifact needs and this CPU lacks, in order."""
    return sorted(set(manifest.requires.get(ISA, "").split()) - set(instruction_sets()))


def refuse_other_cpu(artifact: Artifact) -> None:
    """Raise unless this CPU has all that the artifact was made for.

    Raises:
        UserError: It lacks some; the message names them.
    """
    missing = missing_instruction_sets(artifact.manifest)
    if missing:
        raise UserError(
            f"{artifact.folder}: made for a CPU with {', '.join(missing)}, which this one lacks: "
            "run the recipe on this machine"
        )
