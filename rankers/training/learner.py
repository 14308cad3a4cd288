"""A module, its optimizers and the schedule of their learning rates: what one step changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rankers.training.losses import LOSS_FUNCTIONS

if TYPE_CHECKING:
    from rankers.training.batches import Batch
    from rankers.training.distributed import Share
    from rankers.training.options import TrainingOptions


class Learner:
    """Trains a module in place.

    Args:
        module: With ``logits(**columns) -> [rows]``.
        options: How to train.
        steps: Of the whole training: learning rates fall linearly to 0 over them.
        share: Of this process; gradients are averaged over all.
    """

    def __init__(
        self, module: nn.Module, options: TrainingOptions, steps: int, share: Share
    ) -> None:
        self.module, self.options, self.share = module, options, share
        # Sparse gradients: a batch touches a few thousand of the tables' rows, not all.
        self.tables = [each for each in module.modules() if isinstance(each, nn.Embedding)]
        for table in self.tables:
            table.sparse = True
        weights = [each.weight for each in self.tables]
        ours = {id(each) for each in weights}
        rest = [each for each in module.parameters() if id(each) not in ours]
        self.optimizers: list[torch.optim.Optimizer] = []
        if weights:
            self.optimizers.append(torch.optim.Adagrad(weights, options.table_learning_rate))
        if rest:
            self.optimizers.append(
                torch.optim.AdamW(rest, options.learning_rate, weight_decay=options.weight_decay)
            )
        self.schedules = [
            torch.optim.lr_scheduler.LinearLR(each, 1.0, 0.0, total_iters=steps)
            for each in self.optimizers
        ]
        self.scaler = torch.amp.GradScaler(
            options.device, enabled=options.precision == "float16" and options.device == "cuda"
        )
        self.forward = self._forward()

    def step(self, batch: Batch) -> float:
        """Learn from one batch and return its mean loss."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        precision = getattr(torch, self.options.precision)
        with torch.autocast(
            self.options.device, dtype=precision, enabled=precision != torch.float32
        ):
            logits = self.forward(**batch.columns)
        if len(batch.labels):
            loss = LOSS_FUNCTIONS[self.options.loss](logits.float(), batch.labels, batch.request)
        else:  # this process has no part in a small batch, but the others wait for its gradients
            loss = logits.float().sum() * 0.0
        # The average over processes is then the mean over all of the batch's rows.
        part = loss * (len(batch.labels) * self.share.processes / batch.rows)
        self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        # PyTorch 2.13 warns about the invariants of sparse gradients unless it is told.
        with torch.sparse.check_sparse_tensor_invariants(enable=False):  # type: ignore[no-untyped-call]
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
        self.scaler.update()
        for schedule in self.schedules:
            schedule.step()
        return float(loss.item())

    def finish(self) -> None:
        """Leave the module as it was found, but trained."""
        for table in self.tables:
            table.sparse = False
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "module": self.module.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "schedules": [each.state_dict() for each in self.schedules],
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.module.load_state_dict(state["module"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"].cpu())

    def _forward(self) -> Any:
        """Return ``logits`` as it is called: over processes, and compiled, as the options say."""
        forward: nn.Module = _Logits(self.module)
        if self.share.processes > 1:
            forward = nn.parallel.DistributedDataParallel(forward)
        if self.options.compile:
            return torch.compile(forward, backend=self.options.compile, dynamic=True)
        return forward


class _Logits(nn.Module):
    """Calls ``logits`` where wrappers call ``forward``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **columns: Tensor) -> Tensor:
        logits: Tensor = self.module.logits(**columns)  # type: ignore[operator]
        return logits
