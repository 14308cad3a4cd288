"""Lines of text files, plain or gzipped, in pieces that fit in memory."""

from __future__ import annotations

import gzip
import zlib
from typing import IO, TYPE_CHECKING, cast

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES = 8 << 20


def stream_lines(
    path: Path, *, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[int, list[bytes]]]:
    """Read a file piece by piece.

    Args:
        path: Plain or gzipped, as its first bytes tell.
        chunk_bytes: About how much text is read at once.

    Yields:
        The number of the first line, from 1, and the lines with their ends.

    Raises:
        UserError: The file is missing or cannot be read.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.peek(2)[:2] == b"\x1f\x8b"
            with cast("IO[bytes]", gzip.open(raw) if compressed else raw) as file:
                number = 1
                while lines := file.readlines(chunk_bytes):
                    yield number, lines
                    number += len(lines)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:  # gzip raises all three
        raise UserError(f"{path}: cannot be read: {error}") from error


def stream_text(path: Path, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[int, str]]:
    """Read a UTF-8 file line by line, without line ends.

    Yields:
        The number of the line, from 1, and its text.

    Raises:
        UserError: The file is missing, cannot be read, or a line is not UTF-8.
    """
    for first, lines in stream_lines(path, chunk_bytes=chunk_bytes):
        for number, line in enumerate(lines, first):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(f"{path} line {number}: is not UTF-8 text: {error}") from error
