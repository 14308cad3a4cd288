"""Stage ``user_once``: what depends on the user alone is computed once a request."""

from __future__ import annotations

import contextlib
import json
import traceback
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from optimize.option_values import names_in, require_least_one
from rankers.errors import UserError, in_one_line, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

REPORT = "user-once.json"
REPORT_SCHEMA = 2


@dataclass(frozen=True)
class UserOnce:
    """Cuts the program where user meets item: above, one row for each user; below, each candidate.

    Exact up to rounding, and the largest gain there is for a ranker that reads a history: DIN,
    transformers over events, target attention. It pays where much depends on the user alone; the
    flat program is kept, with a note, where it does not, or where the user's part mixes rows.
    docs/user-once.md tells what is rewritten and what each rewrite is worth.
    Sources: Meta's request-only optimization (arXiv:2508.05640), Kuaishou's MaRI.
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = (
        "flat_graph.py",
        "samples.py",
        "lookups.py",
        "diagnosis/trace.py",
        "user_once/**/*.py",
    )

    candidates: int = field(
        default=200, metadata={"help": "of a request: what costs are reckoned for"}
    )
    when: Literal["worthwhile", "always"] = field(
        default="worthwhile",
        metadata={"help": "worthwhile: keep the flat program if it is as fast"},
    )
    leave_out: str = field(
        default="",
        metadata={"help": "rewrites that are not tried (docs/user-once.md), with commas between"},
    )

    def __post_init__(self) -> None:
        require_least_one("user_once", self, "candidates")

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Rewrite, or copy the flat program; see `optimize.stages.Stage.run`."""
        from optimize.samples import sample_tensors
        from optimize.torch_program import PROGRAM, load_program, save_program
        from optimize.user_once.rewriting import Rewritten, flat_account, rewrite_user_once

        manifest = artifact.manifest
        signature = manifest.signature
        if manifest.layout != "flat":
            raise UserError(f"{artifact.folder}: has the layout {manifest.layout!r} already")
        rewrites = self._rewrites()
        program = load_program(artifact.model_path)
        given = (
            program,
            [each.name for each in signature.features],
            [each.name for each in signature.user],
            sample_tensors(signature),
        )
        try:
            found = rewrite_user_once(
                *given,
                candidates=self.candidates,
                rewrites=rewrites,
                always=self.when == "always",
            )
        except Exception as error:
            if self.when == "always":
                raise
            # The flat program is right whatever the rewrite met, so a run goes on with it.
            reason = str(error)
            if not isinstance(error, UserError):
                traceback.print_exc()  # into the stage's log
                reason = in_one_line(error)
            before = None
            with contextlib.suppress(Exception):  # what could not be rewritten may be unreadable
                before = flat_account(*given, candidates=self.candidates)
            found = Rewritten(
                None, f"kept flat: {reason}", before=before, candidates=self.candidates
            )
        save_program(program if found.program is None else found.program, folder / PROGRAM)
        report = {"schema": REPORT_SCHEMA} | found.to_json()
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        return replace(
            manifest,
            model=PROGRAM,
            layout="flat" if found.program is None else "user_once",
            notes=(*manifest.notes, f"user_once: {found.reason}"),
        )

    def _rewrites(self) -> list[str]:
        from optimize.user_once.rewriting import REWRITES

        left_out = names_in(self.leave_out)
        for name in left_out:
            if name not in REWRITES:
                raise UserError(
                    f"stage 'user_once': leave_out names {name!r}; {nearest(name, REWRITES)}"
                )
        return [name for name in REWRITES if name not in left_out]
