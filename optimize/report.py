"""What a run says on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.status import Status

    from optimize.artifact import Artifact
    from optimize.branching import Chosen
    from optimize.run import Run, StageResult


class TerminalObserver:
    """Shows the step at work, and a line for each that ended. Writes to standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None

    def started(self, stage: str) -> None:
        """Show a spinner where there is a terminal, else a line."""
        self.stop()
        if self._console.is_terminal:
            self._status = self._console.status(f"{stage} …")
            self._status.start()
        else:
            self._console.print(f"  {stage} …")

    def finished(self, result: StageResult) -> None:
        """Print what became of the step."""
        self.stop()
        mark = "[green]✓[/]" if result.artifact.passed else "[red]✗[/]"
        how = "from the cache" if result.cached else f"{result.seconds:.1f} s"
        size = _megabytes(result.artifact.model_bytes)
        self._console.print(f"{mark} {result.name}  {size}, {how}")
        for note in result.artifact.manifest.notes:
            if note.startswith(f"{result.name}: "):
                self._console.print(f"    {note.partition(': ')[2]}")
        for verdict in result.artifact.manifest.verdicts:
            word = verdict.word if verdict.passed else f"[red]{verdict.word}[/]"
            self._console.print(f"    {verdict.gate} {word}: ", end="")
            # A reason holds intervals in brackets, which are no markup.
            self._console.print(verdict.reason, markup=False)

    def noticed(self, message: str) -> None:
        """Print a line that needs attention."""
        self._console.print(f"[yellow]note:[/] {message}")

    def stop(self) -> None:
        """Take the spinner away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def print_run(run: Run) -> None:
    """Print where the result is and what to do with it."""
    console = Console(stderr=True, highlight=False)
    if run.branches is not None:
        _print_branches(run.branches, console)
    if run.chosen is None:
        console.print("[red]no artifact passed its gates[/]; the reasons are above")
        return
    ended = "recipe done" if run.passed else "[red]recipe ended early[/]"
    console.print(f"{ended}; chosen: {run.chosen.folder}")
    if run.chosen.manifest.layout == "user_state":
        console.print(f'open it: open_user_state("{run.out}"), as docs/user-once.md shows')
    else:
        console.print(f"deploy it: python -m optimize deploy {run.out}", soft_wrap=True)


def _print_branches(chosen: Chosen, console: Console) -> None:
    """Print how each branch ended, and why."""
    table = Table("branch", "", "why", box=None)
    for each in chosen.branches:
        kept = each.end == "kept"
        end = f"[green]{each.end}[/]" if kept else each.end
        table.add_row(each.name, end, escape(each.reason))
    console.print(table)
    if chosen.note:
        console.print(f"[yellow]note:[/] {escape(chosen.note)}", soft_wrap=True)


def print_artifact(artifact: Artifact) -> None:
    """Print what an artifact says of itself."""
    manifest = artifact.manifest
    console = Console(highlight=False)
    console.print(
        f"[bold]{manifest.name}[/]  {manifest.format} {manifest.precision}, "
        f"{manifest.layout} layout, {_megabytes(artifact.model_bytes)}"
    )
    recalibrated = ", recalibrated" if manifest.score_map else ""
    console.print(f"key {artifact.key[:16]}   score: {manifest.signature.score}{recalibrated}")
    for name, value in manifest.requires.items():
        console.print(f"requires {name}: {value}")
    for name, value in manifest.settings.items():
        console.print(f"opened with {name}: {value}")
    features = Table("feature", "side", "dtype", "row shape", "IDs", box=None)
    for each in manifest.signature.features:
        ids = "" if each.cardinality is None else f"0 … {each.cardinality - 1}"
        features.add_row(each.name, each.side, each.dtype, str(list(each.shape)), ids)
    console.print(features)
    if manifest.signature.ignored:
        console.print(f"no longer read: {', '.join(manifest.signature.ignored)}")
    lineage = Table("stage", "options", "seconds", "versions", box=None)
    for step in manifest.lineage:
        options = ", ".join(f"{name}={value}" for name, value in step.options.items())
        versions = ", ".join(f"{name} {value}" for name, value in step.versions.items())
        lineage.add_row(step.stage, options, f"{step.seconds:.1f}", versions)
    console.print(lineage)
    for note in manifest.notes:
        console.print(note, soft_wrap=True)
    for verdict in manifest.verdicts:
        console.print(f"{verdict.gate} {verdict.word}: {verdict.reason}", markup=False)
    if not manifest.verdicts:
        console.print("no gate has looked at it")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
