"""Pictures of committed results as PNG files, and whether they are current.

Each results file gives its first picture twice: for a light page and for a dark one. A PNG keeps
the SHA-256 of the file that it was drawn from, so that a test need not compare pixels, which differ
between versions of fonts and libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.chapters import chapter
from bench.pictures.canvas import GROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.pictures.canvas import Picture
    from bench.results_file import ResultsFile

DRAWN_FROM = "Results SHA-256"


def write_pictures(files: Sequence[ResultsFile], folder: Path) -> list[Path]:
    """Draw the pictures of results files that are not current; return what was written.

    Pictures of results files that are gone are removed.
    """
    from rankers.files import write_atomically

    stale = stale_pictures(files, folder)
    written = []
    for file, ground, picture in _wanted(files):
        path = folder / picture_name(file, ground)
        if path in stale:
            write_atomically(path, picture.png(ground, _metadata(file, picture)))
            written.append(path)
    for path in set(stale) - set(written):
        path.unlink()
    return written


def stale_pictures(files: Sequence[ResultsFile], folder: Path) -> list[Path]:
    """Return pictures that are missing, of other results than these, or of none."""
    wanted = {
        folder / picture_name(file, ground): _metadata(file, picture)
        for file, ground, picture in _wanted(files)
    }
    stale = [path for path, metadata in wanted.items() if not _is_current(path, metadata)]
    return stale + [path for path in sorted(folder.glob("*.png")) if path not in wanted]


def picture_name(file: ResultsFile, ground: str) -> str:
    """Return such as ``demo-cpu-dark.png``."""
    return f"{file.path.stem}-{ground}.png"


def headline(file: ResultsFile) -> Picture | None:
    """Return the picture that says the most of a results file; None for one without answers."""
    pictures = chapter(file.found).pictures
    return pictures[0] if pictures else None


def _wanted(files: Sequence[ResultsFile]) -> Iterator[tuple[ResultsFile, str, Picture]]:
    for file in files:
        picture = headline(file)
        if picture is not None:
            for ground in GROUNDS:
                yield file, ground, picture


def _metadata(file: ResultsFile, picture: Picture) -> dict[str, str]:
    return {"Title": picture.title, "Source": file.path.name, DRAWN_FROM: file.sha256}


def _is_current(path: Path, metadata: dict[str, str]) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            kept = dict(image.text)  # type: ignore[attr-defined]
    except (OSError, UnidentifiedImageError, AttributeError):
        return False
    return {name: kept.get(name) for name in metadata} == metadata
