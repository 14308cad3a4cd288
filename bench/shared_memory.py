"""A way to a model on this machine's server that sends no tensors, only where they lie."""

from __future__ import annotations

import os
import threading
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.transports import PATIENCE_S, PlainGrpc, datatype
from rankers.wire import SCORE, pack_request, wire_tensors

if TYPE_CHECKING:
    from rankers.requests import Array, RankingRequest

_PAGE_BYTES = 4096


class SharedMemory:
    """``tritonclient.grpc`` with tensors in system shared memory, for a server on this machine.

    Each thread has a region of its own for what it sends and what it gets.
    """

    def __init__(self, url: str, model: str) -> None:
        import tritonclient.grpc as api

        self._plain = PlainGrpc(url, model)
        self.signature = self._plain.signature
        self._api, self._model = api, model
        self._client = self._plain.client
        self._tensors = wire_tensors(self.signature)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._regions: dict[str, Any] = {}

    def prepare(self, request: RankingRequest) -> RankingRequest:
        """Nothing: writing to the shared memory is part of what a caller waits for."""
        return request

    def __call__(self, prepared: RankingRequest) -> Array:
        """Write the tensors to this thread's region, send where they are, read the scores."""
        from tritonclient.utils import shared_memory as shm

        packed = pack_request(self._tensors, prepared)
        sent = sum(array.nbytes for array in packed.values())
        answer = prepared.candidates * 4
        name, handle = self._region(sent + answer)
        shm.set_shared_memory_region(handle, list(packed.values()))
        inputs, offset = [], 0
        for tensor in self._tensors:
            array = packed[tensor.name]
            each = self._api.InferInput(tensor.name, array.shape, datatype(tensor))
            each.set_shared_memory(name, array.nbytes, offset)
            offset += array.nbytes
            inputs.append(each)
        output = self._api.InferRequestedOutput(SCORE)
        output.set_shared_memory(name, answer, offset)
        self._client.infer(self._model, inputs, outputs=[output], client_timeout=PATIENCE_S)
        scores = shm.get_contents_as_numpy(handle, np.float32, [prepared.candidates], offset)
        return np.array(scores)  # a copy: the next request overwrites the region

    def close(self) -> None:
        """Unregister and remove every region."""
        for name in list(self._regions):
            self._drop(name)
        self._plain.close()

    def _region(self, size: int) -> tuple[str, Any]:
        """Return this thread's region, at least ``size`` bytes large."""
        from tritonclient.utils import shared_memory as shm

        held = getattr(self._local, "region", None)
        if held is not None and held[2] >= size:
            return held[0], held[1]
        if held is not None:
            self._drop(held[0])
        size = -(-2 * size // _PAGE_BYTES) * _PAGE_BYTES
        # One key each: what a killed run leaves in /dev/shm can be told by the process's number.
        name = f"rankserve_bench_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        handle = shm.create_shared_memory_region(name, f"/{name}", size)
        with self._lock:
            self._regions[name] = handle
        self._client.register_system_shared_memory(name, f"/{name}", size)
        self._local.region = (name, handle, size)
        return name, handle

    def _drop(self, name: str) -> None:
        from tritonclient.utils import InferenceServerException
        from tritonclient.utils import shared_memory as shm

        with self._lock:
            handle = self._regions.pop(name)
        try:
            self._client.unregister_system_shared_memory(name)
        except InferenceServerException:
            pass  # The server is gone, and its mapping with it; the region is still ours to remove.
        finally:
            shm.destroy_shared_memory_region(handle)
