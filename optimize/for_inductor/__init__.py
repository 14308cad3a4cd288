"""A program in the words that Inductor's CPU code is fast with.

Inductor makes loops of what it can and calls torch's kernels for the rest. Some programs come out
slower than the same ones written otherwise; here they are written otherwise. What is computed stays
the same, to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from optimize.artifact import Manifest


def rewrite_for_cpu(
    program: ExportedProgram, manifest: Manifest
) -> tuple[ExportedProgram, list[str]]:
    """Rewrite a program of an artifact for Inductor's CPU code.

    Args:
        program: Of either layout, on the CPU. It stays as it is.
        manifest: The artifact's.

    Returns:
        The program, the one given if there is nothing to rewrite; and a line for each rewrite.

    Raises:
        UserError: What was rewritten cannot be exported.
    """
    from optimize.for_inductor.bags import pool_in_one_kernel
    from optimize.for_inductor.biases import add_biases_in_loops
    from optimize.for_inductor.picks import pick_in_runs
    from optimize.for_inductor.sums import reduce_short_rows
    from optimize.lookups import unfold_bags
    from optimize.tables.program import open_graph, program_of

    graph = open_graph(program, manifest)
    done = [
        *unfold_bags(graph),  # to masks and sums, which are pooled next
        *pool_in_one_kernel(graph, user_once=manifest.layout != "flat"),
        *reduce_short_rows(graph),
        *pick_in_runs(graph),
        *add_biases_in_loops(graph),
    ]
    return (program_of(graph, manifest), done) if done else (program, [])
