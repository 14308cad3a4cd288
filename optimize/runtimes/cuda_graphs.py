"""CUDA graphs: one captured graph for each candidate bucket, inputs and scores at fixed addresses.

A request is packed into its bucket's pinned buffer, copied to the device at once, replayed, and its
scores are copied back at once. Launching a ranker's hundreds of kernels one by one costs more than
running them; a replay is one launch.

On the CPU the same packing, padding and views run, and a replay calls the program directly.
Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from optimize.buckets import LADDER, Beyond, Buckets
from optimize.gpu_graphs import GRAPHS
from optimize.half_products import narrow_products
from optimize.runtimes.static_buckets import BucketPredictor
from optimize.static_inputs import StaticInputs, columns_of
from optimize.torch_program import load_program, program_on
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from optimize.artifact import Artifact
    from optimize.half_products import Precision
    from optimize.runtimes import Predictor
    from optimize.static_inputs import Column
    from rankers.requests import Array

SETTING = GRAPHS
_WARM_UPS = 3  # libraries choose kernels and allocate workspaces in their first calls
_DYNAMO_LIMIT = 8  # of torch 2.11, where the configuration has no such name


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """How a program is captured, as its manifest's setting ``cuda_graphs`` says.

    Attributes:
        sizes: The buckets.
        beyond: As in `optimize.buckets.Buckets`.
        precision: Of matrix products.
        compile: Whether `torch.compile` makes its kernels, for each bucket apart.
        max_autotune: Whether that tries several kernels for each product.
        copies_in_graph: Whether the copies there and back are part of the graph.
    """

    sizes: tuple[int, ...] = LADDER
    beyond: Beyond = "split"
    precision: Precision = "fp32"
    compile: bool = False
    max_autotune: bool = False
    copies_in_graph: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))  # JSON has lists
        Buckets(self.sizes, self.beyond)
        if not self.compile:
            return
        from torch import _dynamo as dynamo  # takes a second

        limit = getattr(dynamo.config, "recompile_limit", _DYNAMO_LIMIT)
        if len(self.sizes) > limit:
            raise UserError(
                f"{len(self.sizes)} buckets are more programs than torch.compile makes of one, "
                f"{limit}: choose fewer"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON-ready data."""
        return asdict(self) | {"sizes": list(self.sizes)}


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Capture a ``torch`` artifact with the setting ``cuda_graphs``, once for each bucket.

    Raises:
        UserError: The device is ``cuda`` and there is none, or the program cannot be captured.
    """
    manifest = artifact.manifest
    options = GraphOptions(**manifest.settings[SETTING])
    if device == "cpu":
        torch.set_num_threads(threads)
    program = program_on(load_program(artifact.model_path), device)
    module = program.module(check_guards=False)
    narrow_products(module, options.precision)
    return GraphPredictor(module, columns_of(manifest), options, device=device)


class Replayed(Protocol):
    """What runs again what was captured: reads the static inputs, writes the static scores."""

    def replay(self) -> None:
        """Run it once."""


class GraphPredictor(BucketPredictor):
    """A program in buckets; one request at a time, whichever thread it comes from.

    Args:
        module: From columns by position, ``[rows, …]``, to scores ``[rows]``; on ``device``.
        columns: What it takes, in order.
        options: The buckets, and how they are captured.
        device: ``cpu`` or ``cuda``.

    Attributes:
        buckets: The sizes, and what becomes of larger requests.
        graphs: By size.

    Raises:
        UserError: There is no such device, or the program cannot be captured.
    """

    def __init__(
        self, module: Any, columns: Sequence[Column], options: GraphOptions, *, device: str
    ) -> None:
        from optimize.devices import require_device

        require_device(device)
        buckets = Buckets(options.sizes, options.beyond)
        stream = _new_stream() if device != "cpu" else None
        if options.compile:
            mode = "max-autotune-no-cudagraphs" if options.max_autotune else "default"
            module = torch.compile(module, dynamic=False, mode=mode)
        pool = None if stream is None else torch.cuda.graph_pool_handle()
        # The largest first: the smaller ones fit into the memory that it leaves between replays.
        self.graphs = {
            size: BucketGraph(
                module, StaticInputs(columns, size, device), size, stream, pool,
                copies_in_graph=options.copies_in_graph,
            )
            for size in reversed(buckets.sizes)
        }  # fmt: skip
        self._device, self._stream = device, stream
        super().__init__(columns, buckets, self.graphs)

    def score_resident(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Score columns on the device, of one user where users come once; the scores stay there.

        IDs are not looked at: whoever calls has compared them with their tables' sizes.

        Returns:
            float32 ``[rows]``, done when it returns.
        """
        scores = torch.empty(len(columns[self._counted]), device=self._device)
        with self._lock, on_stream(self._stream), torch.inference_mode():
            if self._stream is not None:
                self._stream.wait_stream(torch.cuda.default_stream())
            for start, end, size in self.buckets.pieces(len(scores)):
                graph = self.graphs[size]
                graph.inputs.fill(columns, start, end)
                scores[start:end].copy_(graph.run_resident()[: end - start])
        if self._stream is not None:
            self._stream.synchronize()
        return scores


class BucketGraph:
    """One bucket: its buffers, and what was captured over them.

    Args:
        module: As in `GraphPredictor`.
        inputs: Its static inputs.
        size: Rows.
        stream: Everything runs on it; None on the CPU.
        pool: Of graphs' memory, shared by all that never run at the same time.
        copies_in_graph: Whether replaying copies as well.

    Attributes:
        inputs: Pack a request into them, then `run`.
        scores: float32 ``[size]`` on the host, overwritten by the next run.
        captured: Without copies, unless they are in the graph.
    """

    def __init__(
        self, module: Any, inputs: StaticInputs, size: int, stream: Any, pool: Any, *,
        copies_in_graph: bool,
    ) -> None:  # fmt: skip
        self.inputs = inputs
        self._stream = stream
        self._copies_in_graph = copies_in_graph
        self._on_device = torch.zeros(size, dtype=torch.float32, device=inputs.device.device)
        self._on_host = torch.zeros(size, dtype=torch.float32, pin_memory=stream is not None)
        self.scores: Array = self._on_host.numpy()

        def compute() -> None:
            self._on_device.copy_(_plain(module(*inputs.tensors)).reshape(-1))

        def compute_with_copies() -> None:
            self._copy_there()
            compute()
            self._copy_back()

        run = compute_with_copies if copies_in_graph else compute
        try:
            self.captured = _direct(run) if stream is None else capture_graph(run, stream, pool)
        except UserError:
            raise
        except Exception as error:  # of torch, its compilers and CUDA: many kinds
            raise UserError(
                f"the program cannot be captured at {size} rows: {in_one_line(error)}"
            ) from error

    def run(self) -> None:
        """Copy the inputs there, replay, and copy the scores back; done when it returns."""
        with on_stream(self._stream):
            if not self._copies_in_graph:
                self._copy_there()
            self.captured.replay()
            if not self._copies_in_graph:
                self._copy_back()
        if self._stream is not None:
            self._stream.synchronize()

    def run_resident(self) -> Tensor:
        """Replay over what the device's inputs hold; return its scores there, overwritten next."""
        if self._copies_in_graph:  # which would write the host's buffer over them
            self.inputs.host.copy_(self.inputs.device)
        self.captured.replay()
        return self._on_device

    def _copy_there(self) -> None:
        self.inputs.device.copy_(self.inputs.host, non_blocking=True)

    def _copy_back(self) -> None:
        self._on_host.copy_(self._on_device, non_blocking=True)


def on_stream(stream: Any) -> Any:
    """Return a context in which everything runs on a stream; on the CPU there is none."""
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def _new_stream() -> Any:
    stream: Any = torch.cuda.Stream  # torch gives it no types
    return stream()


@dataclass(frozen=True, slots=True)
class _Direct:
    """In place of a graph on the CPU: calls what would have been captured."""

    function: Callable[[], None]

    def replay(self) -> None:
        with torch.inference_mode():
            self.function()


def _direct(run: Callable[[], None]) -> Replayed:
    direct = _Direct(run)
    direct.replay()  # what torch.compile makes is made now
    return direct


def capture_graph(run: Callable[[], None], stream: Any, pool: Any) -> Replayed:
    """Capture what ``run`` launches. Not run on any GPU yet (docs/gpu.md).

    Args:
        run: Launches everything on ``stream``.
        stream: Of torch.
        pool: Of graphs' memory, shared by all that never run at the same time.
    """
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            run()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    # Another thread of a server may allocate meanwhile: only this one's calls must not.
    with (
        torch.inference_mode(),
        torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
    ):
        run()
    return cast("Replayed", graph)


def _plain(found: Any) -> Tensor:
    scores: Tensor = found[0] if isinstance(found, tuple | list) else found
    return scores
