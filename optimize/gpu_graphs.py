"""How graphs that were made for a GPU are opened: settings in a manifest.

On a CPU a graph in 16 bits is opened as a twin that rounds: ONNX Runtime's CPU provider would
compute something else than a GPU does, so that gates would judge what is never served
(docs/decisions/024-half-precision-by-our-own-casts.md).
"""

# The 16-bit type of a graph: its results are rounded to it (optimize/half/rounding.py).
HALF = "half"
# That products of a graph are in fp8: ONNX Runtime must not rewrite what stands before its pairs.
FP8 = "fp8"
# Of what a graph is, whatever a session is told: kept by stages that say how it is opened.
OF_GRAPH = (HALF, FP8)
# That a graph runs in candidate buckets, and how (optimize/runtimes/onnx_buckets.py).
ONNX_BUCKETS = "onnx_buckets"
# The setting of `optimize.stages.cuda_graphs`: buckets, and how they are captured.
GRAPHS = "cuda_graphs"
# What code compiled for a GPU requires of it, among what an artifact requires.
GPU = "gpu"
# The least compute capability that multiplies what a graph holds, such as 8.9, among the same. It
# is asked of GPUs alone: a CPU computes the graph in float32.
COMPUTE_CAPABILITY = "compute_capability"


def gpu_architecture() -> str:
    """Return the architecture of the GPU at hand, such as ``sm_90``."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def precision_in(before: str, half: str) -> str:
    """Return an artifact's precision once its float32 operators are in ``fp16`` or ``bf16``.

    >>> precision_in("int8, tables int4", "fp16")
    'int8 fp16, tables int4'
    """
    products, comma, rest = before.partition(", ")
    kinds = [half if kind == "fp32" else kind for kind in products.split()]
    return " ".join(kinds if half in kinds else [*kinds, half]) + comma + rest
