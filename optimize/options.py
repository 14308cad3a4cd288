"""The serving options of ``deploy`` on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from optimize.triton.config import ServingOptions


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between, as a tuple."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read ``0,1``."""
        parts = str(value).split(",")
        if not all(each.strip().isdigit() for each in parts):
            self.fail(f"{value!r}; expected whole numbers, such as 0,1", param, ctx)
        return tuple(int(each) for each in parts)


# Name, type, help. The defaults are those of ServingOptions, which is not imported here: it takes
# NumPy along, and `--help` is to answer at once.
_OPTIONS: tuple[tuple[str, type | click.ParamType[Any], str], ...] = (
    (
        "backend",
        click.Choice(["python", "onnxruntime", "tensorrt", "torch_aoti"]),
        "Triton's backend; all but python are in NVIDIA's image only [python].",
    ),
    (
        "accelerator",
        click.Choice(["none", "cuda", "tensorrt"]),
        "cuda: on GPUs; tensorrt: by that provider of ONNX Runtime, in NVIDIA's image [none].",
    ),
    ("gpus", Numbers(), "The GPUs by number, with commas between [all that the server sees]."),
    ("instances", int, "Processes that each run one batch at a time [one a physical core]."),
    ("threads", int, "Threads of ONNX Runtime in one instance [1]."),
    ("max_batch_size", int, "Requests joined into one run at most [16]."),
    ("max_queue_delay_us", int, "How long a batch waits for company [0]."),
    ("queue_size", int, "Requests that may wait; more are refused at once; 0: no bounds [128]."),
    ("queue_timeout_ms", float, "How long a request may wait before it is refused [1000]."),
    ("max_candidates", int, "The largest request that is answered [4096]."),
    ("keep_versions", int, "Deployed versions that are kept [3]."),
)


def serving_options(function: Any) -> Any:
    """Add an option for each field of `optimize.triton.config.ServingOptions` to a command."""
    for name, kind, text in reversed(_OPTIONS):
        flag = f"--{name.replace('_', '-')}"
        function = click.option(flag, name, type=kind, help=text)(function)
    return function


def make_serving_options(given: dict[str, Any]) -> ServingOptions:
    """Return serving options from what was given on the command line; None takes the default.

    Raises:
        UserError: A value is out of its range.
    """
    from optimize.triton.config import ServingOptions

    chosen = {name: value for name, value in given.items() if value is not None}
    if "max_candidates" in chosen:
        sizes = ServingOptions().warm_up_candidates
        chosen["warm_up_candidates"] = tuple(
            sorted({min(size, max(1, chosen["max_candidates"])) for size in sizes})
        )
    return ServingOptions(**chosen)
