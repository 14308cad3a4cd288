"""Requests as the bytes of a ``ModelInferRequest``, without a protobuf tree for each.

Of one model's requests only the number of candidates, the queue's ``timeout`` and the tensors'
contents change. The rest is serialized once; protobuf's wire format lets fields follow in any order
(https://protobuf.dev/programming-guides/encoding), so a request is parts put one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2

from rankers.wire import SCORE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from client.shared_regions import Region
    from rankers.features import Dtype
    from rankers.requests import Array
    from rankers.wire import WireTensor

_DATATYPES: dict[Dtype, str] = {
    "int64": "INT64",
    "int32": "INT32",
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "bool": "BOOL",
}
# ModelInferRequest.raw_input_contents, field 7, length-delimited.
_RAW_INPUT = b"\x3a"
# Above it a float of microseconds is no int64.
_LONGEST_US = 2.0**62
# Stands for each letter of a region's name where a head is kept for all regions.
_ANY_NAME = "\x01"
# Heads kept, by number of candidates. A model that is asked for more sizes than this pays 5 µs.
KEPT = 4096


class RequestBytes:
    """Writes requests to one model.

    Args:
        model: Its name.
        tensors: Of its signature.
        version: Of the model; the server's choice if empty.
    """

    def __init__(self, model: str, tensors: tuple[WireTensor, ...], version: str = "") -> None:
        self._model, self._version, self._tensors = model, version, tensors
        self._names = tuple(each.name for each in tensors)
        self._heads: dict[int, bytes] = {}
        self._lengths: dict[int, bytes] = {}
        # By candidates and the length of a region's name, which all of one process have alike.
        self._shared_heads: dict[tuple[int, int], bytes] = {}
        self._timeout: tuple[float, bytes] = (1.0, _queue_timeout(1.0))  # the last one

    def body(self, packed: Mapping[str, Array], candidates: int, timeout_s: float) -> bytes:
        """Return a serialized ``ModelInferRequest``.

        Args:
            packed: The tensors by name, each contiguous.
            candidates: N.
            timeout_s: How long the request may wait in the server's queue.
        """
        head = self._heads.get(candidates)
        if head is None:
            head = self._message(candidates).SerializeToString()
            if len(self._heads) < KEPT:
                self._heads[candidates] = head
        timeout = self._queue_timeout(timeout_s)
        parts: list[bytes | memoryview] = [head, timeout]
        lengths = self._lengths
        for name in self._names:
            data = packed[name].data
            length = lengths.get(data.nbytes)
            if length is None:
                length = _RAW_INPUT + varint(data.nbytes)
                if len(lengths) < KEPT:
                    lengths[data.nbytes] = length
            parts.append(length)
            parts.append(data)
        return b"".join(parts)

    def shared_body(
        self, packed: Mapping[str, Array], candidates: int, timeout_s: float, region: Region
    ) -> bytes:
        """Write the tensors to a region; return the request that says where they lie in it."""
        arrays = [packed[name] for name in self._names]
        places = region.write(arrays)
        name = region.name.encode()
        head = self._shared_heads.get((candidates, len(name)))
        if head is None:
            message = self._message(candidates)
            for entry, array, place in zip(message.inputs, arrays, places, strict=True):
                entry.parameters["shared_memory_region"].string_param = _ANY_NAME * len(name)
                entry.parameters["shared_memory_byte_size"].int64_param = array.nbytes
                entry.parameters["shared_memory_offset"].int64_param = place
            head = message.SerializeToString()
            if len(self._shared_heads) < KEPT:
                self._shared_heads[candidates, len(name)] = head
        named = head.replace(_ANY_NAME.encode() * len(name), name)
        return named + self._queue_timeout(timeout_s)

    def _queue_timeout(self, timeout_s: float) -> bytes:
        last_s, timeout = self._timeout
        if timeout_s != last_s:
            timeout = _queue_timeout(timeout_s)
            self._timeout = timeout_s, timeout
        return timeout

    def _message(self, candidates: int) -> Any:
        return service_pb2.ModelInferRequest(
            model_name=self._model,
            model_version=self._version,
            inputs=[
                service_pb2.ModelInferRequest.InferInputTensor(
                    name=each.name,
                    datatype=_DATATYPES[each.dtype],
                    shape=[1, each.width] if each.side == "user" else [1, candidates, each.width],
                )
                for each in self._tensors
            ],
            outputs=[service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=SCORE)],
        )


def _queue_timeout(timeout_s: float) -> bytes:
    """Return ``parameters["timeout"].int64_param``, in microseconds.

    The server does not read gRPC's deadline: without this, a request that nobody waits for any more
    would keep its place in the queue.
    """
    value = b"\x10" + varint(round(min(max(timeout_s * 1e6, 1.0), _LONGEST_US)))
    entry = b"\x0a\x07timeout\x12" + varint(len(value)) + value
    return b"\x22" + varint(len(entry)) + entry


def varint(value: int) -> bytes:
    """Return protobuf's form of a number that is not negative."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
