"""Starting calls, and hearing of their ends.

gRPC's public way to wait for a limited time, ``future().result(timeout)``, starts a thread for
every call that is alone on its channel and makes a dozen objects besides. `CompletionThread` is one
thread that stays: as cheap as gRPC's blocking call (docs/decisions/019). It uses the layer below
gRPC's public one; where that has changed, `PublicFutures` does the same.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

Metadata = tuple[tuple[str, str], ...]

# A deadline, in seconds since 1970: gRPC sends nothing of a call that is over.
_LONG_AGO = 1.0
_ANY_METHOD = "/inference.GRPCInferenceService/ServerLive"


class Ended(NamedTuple):
    """How a call ended: with a response, or with gRPC's code and what was said."""

    response: bytes | None
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""

    def answer(self) -> bytes:
        """Return the response.

        Raises:
            CallFailed: The call failed.
        """
        if self.response is None:
            raise CallFailed(self.code, self.details)
        return self.response

    def inferred(self) -> Any:
        """Return the ``ModelInferResponse``. Raises as `answer`, and if it is none."""
        try:
            return service_pb2.ModelInferResponse.FromString(self.answer())
        except DecodeError as error:
            raise CallFailed(grpc.StatusCode.INTERNAL, f"damaged response: {error}") from error


class CallFailed(grpc.RpcError):
    """A call that failed, with what gRPC's own errors tell."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        """Return gRPC's status code."""
        return self._code

    def details(self) -> str:
        """Return what was said."""
        return self._details


class Starter(Protocol):
    """Starts calls on one channel; tells ``then``, which raises nothing, once for each."""

    def start(
        self, method: str, body: bytes, metadata: Metadata, then: Callable[[Ended], None]
    ) -> None:
        """Send a request.

        Raises:
            ValueError: The channel was closed.
        """
        ...

    def close(self) -> None:
        """Close the channel."""
        ...


class PublicFutures:
    """Starts calls as gRPC's public surface does."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._methods: dict[str, Any] = {}
        # gRPC cancels a call that is garbage.
        self._kept: set[Any] = set()

    def start(
        self, method: str, body: bytes, metadata: Metadata, then: Callable[[Ended], None]
    ) -> None:
        """Send a request."""
        if method not in self._methods:
            self._methods[method] = self._channel.unary_unary(method, None, None)
        call = self._methods[method].future(body, metadata=metadata or None)
        self._kept.add(call)

        def end(call: Any) -> None:
            self._kept.discard(call)
            code = call.code()
            if code is grpc.StatusCode.OK:
                then(Ended(call.result()))
            else:
                then(Ended(None, code, call.details() or ""))

        call.add_done_callback(end)

    def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._channel.close()


class CompletionThread:
    """Starts calls on gRPC's lower layer, and has one thread that hears of their ends.

    gRPC destroys a channel's queue of ends when the channel closes, and a thread that listens to it
    just then reads freed memory. So the thread leaves before: no call is started any more, one that
    is over before it begins wakes the thread up, and after the last end it does not listen again.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        from grpc._cython import cygrpc  # type: ignore[attr-defined]

        self._api = cygrpc
        self._channel = channel
        self._core = channel._channel  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        self._codes = {each.value[0]: each for each in grpc.StatusCode}
        self._listening = _Listening()
        self._thread = threading.Thread(
            target=_listen,
            args=(self._core, cygrpc, self._listening),
            name="rankserve-completions",
            daemon=True,
        )
        self._thread.start()

    def start(
        self, method: str, body: bytes, metadata: Metadata, then: Callable[[Ended], None]
    ) -> None:
        """Send a request.

        Raises:
            ValueError: The channel was closed.
        """
        self._start(method, body, metadata, then, None)

    def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        if threading.current_thread() is self._thread:  # that of the last one to hold the client
            threading.Thread(target=self.close).start()
            return
        with contextlib.suppress(ValueError):
            self._start(_ANY_METHOD, b"", (), lambda _: None, _LONG_AGO, closing=True)
            self._channel.close()
            self._thread.join()

    def _start(
        self,
        method: str,
        body: bytes,
        metadata: Metadata,
        then: Callable[[Ended], None],
        deadline: float | None,
        *,
        closing: bool = False,
    ) -> None:
        api = self._api
        operations = (
            api.SendInitialMetadataOperation(metadata or None, 0),
            api.SendMessageOperation(body, 0),
            api.SendCloseFromClientOperation(0),
            api.ReceiveInitialMetadataOperation(0),
            message := api.ReceiveMessageOperation(0),
            status := api.ReceiveStatusOnClientOperation(0),
        )

        def end(_: Any) -> None:
            code, response = status.code(), message.message()
            if code == 0 and response is not None:
                then(Ended(response))
                return
            known = self._codes.get(code, grpc.StatusCode.UNKNOWN)
            then(Ended(None, known, status.details() or ""))

        listening = self._listening
        with listening.lock:
            if listening.closing:
                raise ValueError("the client was closed")
            self._core.integrated_call(
                0, method.encode(), None, deadline, None, None, ((operations, end),), None, None
            )
            listening.calls += 1
            listening.closing = closing


class _Listening:
    """What the thread and those who start calls share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = 0
        self.closing = False


def _listen(core: Any, api: Any, listening: _Listening) -> None:
    """Call what each event is tagged with, until the last call has ended."""
    while True:
        event = core.next_call_event()
        if event.completion_type != api.CompletionType.operation_complete:
            continue
        event.tag(event)
        with listening.lock:
            listening.calls -= 1
            if listening.closing and not listening.calls:
                return


def cheapest_starter(channel: grpc.Channel) -> Starter:
    """Return `CompletionThread` where gRPC has what it needs."""
    try:
        return CompletionThread(channel)
    except (ImportError, AttributeError):
        return PublicFutures(channel)
