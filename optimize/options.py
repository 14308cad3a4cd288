"""The serving options of ``deploy`` on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from optimize.triton.config import ServingOptions

# Name, type, help. The defaults are those of ServingOptions, which is not imported here: it takes
# NumPy along, and `--help` is to answer at once.
_OPTIONS: tuple[tuple[str, type | click.Choice[str], str], ...] = (
    (
        "backend",
        click.Choice(["python", "onnxruntime", "torch_aoti"]),
        "Triton's backend; onnxruntime and torch_aoti are in NVIDIA's image only [python].",
    ),
    (
        "accelerator",
        click.Choice(["none", "cuda", "tensorrt"]),
        "What runs on a GPU, in NVIDIA's image; tensorrt with onnxruntime only [none].",
    ),
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
