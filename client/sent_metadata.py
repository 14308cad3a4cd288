"""What goes with every call beside its message: tokens and the like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from client.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from client.completions import Metadata

_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")


def sendable(metadata: Mapping[str, str]) -> Metadata:
    """Return metadata as gRPC takes it.

    Raises:
        InvalidRequest: gRPC would refuse it, at each call. Values are secrets: none is named.
    """
    for name, value in metadata.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("grpc-"):
            raise InvalidRequest(
                f"metadata name {name!r:.80} cannot be sent: use lowercase letters, digits, '-', "
                "'_' and '.', not beginning with 'grpc-'"
            )
        if name.endswith("-bin"):
            raise InvalidRequest(f"metadata {name!r:.80} would be bytes; send text, as base64 say")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise InvalidRequest(
                f"the value of metadata {name!r:.80} cannot be sent: use printable ASCII, on a line"
            )
    return tuple(metadata.items())
