"""The fused lookups as operators of torch, so that programs can hold them and load them again.

On CUDA the kernel runs, on the CPU its twin. Importing this module registers them; it imports no
``triton``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from optimize.kernels import lookup_dots as kernels
from optimize.kernels.lookup_dots import Dots
from optimize.kernels.stacked_tables import StackedTables

if TYPE_CHECKING:
    from torch import Tensor

NAMESPACE = "rankserve"
_TABLES = (
    "Tensor data, Tensor scales, Tensor parts, Tensor layout, int[] regions, int longest, "
    "Tensor ids"
)
_DOTS = "Tensor given, Tensor places, int count, bool first"
# Kept, as what it registered goes with it.
_new_library: Any = torch.library.Library  # torch gives it no types
_LIBRARY = _new_library(NAMESPACE, "DEF")


def _tables(given: tuple[Any, ...]) -> StackedTables:
    data, scales, parts, layout, regions, longest = given
    return StackedTables(data, scales, parts, layout, tuple(regions), longest)


def _vectors_cpu(*given: Any) -> Tensor:
    tables, ids = _tables(given[:6]), given[6]
    kernels.refuse_ids(tables, ids)
    return kernels.lookup_vectors_reference(tables, ids)


def _vectors_cuda(*given: Any) -> Tensor:
    return kernels.lookup_vectors(_tables(given[:6]), given[6])


def _vectors_shape(*given: Any) -> Tensor:
    tables, ids = _tables(given[:6]), given[6]
    found: Tensor = tables.scales.new_empty(ids.shape[0], tables.features, tables.dimension)
    return found


def _dots_cpu(*given: Any) -> Tensor:
    tables, ids, vectors = _tables(given[:6]), given[6], given[7]
    kernels.refuse_ids(tables, ids)
    return kernels.lookup_dots_reference(tables, ids, vectors, Dots(*given[8:]))


def _dots_cuda(*given: Any) -> Tensor:
    return kernels.lookup_dots(_tables(given[:6]), given[6], given[7], Dots(*given[8:]))


def _dots_shape(*given: Any) -> Tensor:
    tables, ids, vectors, count, first = _tables(given[:6]), given[6], given[7], *given[9:]
    width = count + (tables.dimension if first else 0)
    found: Tensor = vectors.new_empty(ids.shape[0], width)
    return found


def _register(name: str, arguments: str, cpu: Any, cuda: Any, shape: Any) -> None:
    _LIBRARY.define(f"{name}({arguments}) -> Tensor")
    _LIBRARY.impl(name, cpu, "CPU")
    _LIBRARY.impl(name, cuda, "CUDA")
    torch.library.register_fake(f"{NAMESPACE}::{name}", shape, lib=_LIBRARY)


_register("lookup_vectors", _TABLES, _vectors_cpu, _vectors_cuda, _vectors_shape)
_register("lookup_dots", f"{_TABLES}, {_DOTS}", _dots_cpu, _dots_cuda, _dots_shape)
lookup_vectors: Any = torch.ops.rankserve.lookup_vectors.default
lookup_dots: Any = torch.ops.rankserve.lookup_dots.default


def arguments_of(tables: StackedTables) -> tuple[Any, ...]:
    """Return what the operators take of tables, before the IDs."""
    t = tables
    return (t.data, t.scales, t.parts, t.layout, list(t.regions), t.longest)
