"""Headers of HTTP/2 as bytes: as much of HPACK (RFC 7541) as a call of gRPC needs.

What is sent is literal. What is received is read without the table that grows with a connection,
which the other side is told to do without (SETTINGS_HEADER_TABLE_SIZE 0), so that a block means the
same wherever it comes. Strings in Huffman's code are none that gRPC's own server sends; where one
comes, the block is not understood, and gRPC is left to make the calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of the static table (RFC 7541, appendix A), what can matter in an answer.
_STATUS = range(8, 15)
_STATUSES = ("200", "204", "206", "304", "400", "404", "500")
_NAMES = dict.fromkeys(_STATUS, ":status") | {31: "content-type"}
_STATIC = 61
_LONGEST = 1 << 16


class NotUnderstood(Exception):  # noqa: N818 - it reads as what is so
    """What came is not what this module reads, be it wrong or not."""


def literal(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return headers as a block that leaves no trace in the other side's table."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in headers)


def _string(text: str) -> bytes:
    encoded = text.encode("ascii")
    return _integer(len(encoded), 7) + encoded


def _integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    parts, value = bytearray([most]), value - most
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def read(block: bytes) -> dict[str, str]:
    """Return the headers of a block; of those that cannot matter, the names may be missing.

    Raises:
        NotUnderstood: It is damaged, or uses what this module does not know.
    """
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _read_integer(block, at, 7)
                if not 0 < index <= _STATIC:
                    raise NotUnderstood(f"header {index} of a table that was not agreed on")
                if index in _STATUS:
                    found[":status"] = _STATUSES[index - _STATUS.start]
            elif first & 0xE0 == 0x20:  # the table's size, which is to be 0
                _, at = _read_integer(block, at, 5)
            else:
                index, at = _read_integer(block, at, 6 if first & 0x40 else 4)
                if index > _STATIC:
                    raise NotUnderstood(f"header {index} of a table that was not agreed on")
                name = _NAMES.get(index, "")
                if not index:
                    name, at = _read_string(block, at)
                value, at = _read_string(block, at)
                found[name] = value
    except (IndexError, UnicodeDecodeError) as error:
        raise NotUnderstood("damaged headers") from error
    return found


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    shift = 0
    while True:
        part = block[at]
        value += (part & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if value > _LONGEST:
            raise NotUnderstood("headers of more than 64 KiB")
        if not part & 0x80:
            return value, at


def _read_string(block: bytes, at: int) -> tuple[str, int]:
    if block[at] & 0x80:
        raise NotUnderstood("headers in Huffman's code")
    length, at = _read_integer(block, at, 7)
    if at + length > len(block):
        raise NotUnderstood("damaged headers")
    return block[at : at + length].decode("latin-1"), at + length


def said(headers: dict[str, str]) -> str:
    """Return the words that go with gRPC's status, of which some bytes travel as ``%XX``."""
    return unquote(headers.get("grpc-message", ""), errors="replace")
