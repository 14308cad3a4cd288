"""What may be answered in place of all scores, when they do not come: less, and flagged as less."""

from __future__ import annotations

from dataclasses import dataclass

from rankers.errors import UserError


@dataclass(frozen=True, slots=True)
class Degrading:
    """What `rank_best_effort` may do instead of failing. Nothing of it is done by default.

    Attributes:
        fewer: Ask for the first so many candidates alone. Those are to be the likelier ones, as
            what retrieves candidates mostly orders them.
        variant: Ask another model of the same servers, which reads the same features: a smaller
            or quantized one. With ``fewer`` it is asked for the first so many.
        partial: Take the parts that came of a request that was split, and leave the others out.
        after: Share of the time budget after which ``fewer`` or ``variant`` are asked for while the
            whole is still waited for. What fails before is not waited for.
    """

    fewer: int | None = None
    variant: str | None = None
    partial: bool = False
    after: float = 0.5

    def __post_init__(self) -> None:
        if self.fewer is not None and self.fewer < 1:
            raise UserError(f"degrading: fewer is {self.fewer}; ask for 1 candidate or more")
        if not 0 <= self.after <= 1:
            raise UserError(
                f"degrading: after is {self.after}; it is a share of the budget, 0 to 1"
            )
        if self.fewer is None and self.variant is None and not self.partial:
            raise UserError("degrading: nothing is allowed; give fewer, variant or partial=True")

    @property
    def asks_less(self) -> bool:
        """Whether there is something else to ask for."""
        return self.fewer is not None or self.variant is not None
