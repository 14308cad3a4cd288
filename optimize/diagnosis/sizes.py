"""Where a ranker's bytes are: its tables and its layers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from optimize.diagnosis.ids import table_features

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from optimize.diagnosis.trace import Trace
    from rankers.ranker import Ranker


@dataclass(frozen=True, slots=True)
class Part:
    """One table, or the parameters and buffers of one layer.

    Attributes:
        name: A table's parameter, or a layer's path.
        shape: A table's ``(rows, width)``; of a layer, that of its largest tensor.
        dtype: Of its elements; several are joined by ``+``.
        bytes: Of all its tensors; a tensor used in several places counts once.
        features: Of a table, the features that choose its rows.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    features: tuple[str, ...] = ()

    def to_json(self, total: int) -> dict[str, Any]:
        """Return the part as JSON-ready data, with its share of a total of bytes."""
        share = self.bytes / total if total else 0.0
        return asdict(self) | {
            "shape": list(self.shape),
            "features": list(self.features),
            "share": round(share, 6),
        }


@dataclass(frozen=True, slots=True)
class Sizes:
    """All parts of a ranker, the largest first."""

    tables: tuple[Part, ...]
    layers: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """Of everything."""
        return sum(each.bytes for each in (*self.tables, *self.layers))

    def to_json(self) -> dict[str, Any]:
        """Return the sizes as JSON-ready data."""
        total = self.bytes
        return {
            "bytes": total,
            "table_bytes": sum(each.bytes for each in self.tables),
            "tables": [each.to_json(total) for each in self.tables],
            "layers": [each.to_json(total) for each in self.layers],
        }


def weigh(ranker: Ranker, trace: Trace | None) -> Sizes:
    """Weigh every parameter and buffer of a ranker's module.

    What is read at places that features choose is a table; without a trace, what belongs to an
    embedding module is.
    """
    readers = table_features(trace) if trace else _embedding_weights(ranker)
    tables, layers = [], dict[str, list["Tensor"]]()
    for name, tensor in _tensors(ranker):
        if name in readers:
            tables.append(
                Part(name, tuple(tensor.shape), _kind([tensor]), tensor.nbytes, readers[name])
            )
        else:
            layers.setdefault(name.rpartition(".")[0], []).append(tensor)
    parts = [_layer(name, held) for name, held in layers.items()]
    return Sizes(
        tuple(sorted(tables, key=lambda each: (-each.bytes, each.name))),
        tuple(sorted(parts, key=lambda each: (-each.bytes, each.name))),
    )


def _tensors(ranker: Ranker) -> Iterator[tuple[str, Tensor]]:
    yield from ranker.module.named_parameters()
    yield from ranker.module.named_buffers()


def _layer(name: str, held: list[Tensor]) -> Part:
    largest = max(held, key=lambda each: each.numel())
    return Part(name, tuple(largest.shape), _kind(held), sum(each.nbytes for each in held))


def _kind(held: list[Tensor]) -> str:
    return "+".join(sorted({str(each.dtype).removeprefix("torch.") for each in held}))


def _embedding_weights(ranker: Ranker) -> dict[str, tuple[str, ...]]:
    from torch import nn

    return {
        f"{path}.weight".removeprefix("."): ()
        for path, module in ranker.module.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
