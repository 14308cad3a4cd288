"""A program in the words that Inductor's CPU code is fast with.

Inductor makes loops of what it can and calls torch's kernels for the rest. Some programs come out
slower than the same ones written otherwise; here they are written otherwise. What is computed stays
the same, to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    import torch

    from optimize.flat_graph import flat_graph
    from optimize.for_inductor.bags import pool_in_one_kernel
    from optimize.for_inductor.biases import add_biases_in_loops
    from optimize.for_inductor.picks import pick_in_runs
    from optimize.for_inductor.sums import reduce_short_rows
    from optimize.lookups import unfold_bags
    from optimize.samples import sample_requests
    from optimize.tables.program import program_of

    def sample(rows: int) -> Any:
        columns = manifest.columns_of(sample_requests(manifest.signature, [1] * rows))
        return {name: torch.from_numpy(columns[name]) for name in manifest.inputs}

    users = [each.name for each in manifest.signature.user]
    graph = flat_graph(program, manifest.inputs, users, sample)
    done = [
        *unfold_bags(graph),  # to masks and sums, which are pooled next
        *pool_in_one_kernel(graph, user_once=manifest.layout != "flat"),
        *reduce_short_rows(graph),
        *pick_in_runs(graph),
        *add_biases_in_loops(graph),
    ]
    return (program_of(graph, manifest), done) if done else (program, [])
