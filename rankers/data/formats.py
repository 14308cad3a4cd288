"""Files of labelled rows by what is in them: nobody has to say which of the formats it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rankers.errors import UserError

if TYPE_CHECKING:
    from rankers.data.log import RankingLog

_PARQUET = b"PAR1"


def read_file(path: Path, *, rows: int | None = None, seed: int = 0) -> RankingLog:
    """Read a file, or a folder of files, to a log.

    Args:
        path: A ``.toml`` schema that names its table (`rankers.data.table_schema`) or a folder of
            Parquet shards of it; a folder of such shards that ``make-data`` wrote, of MovieLens or
            of MS MARCO; a file of Criteo's, Avazu's, Amazon's reviews, SVMlight lines with grades,
            MS MARCO's qrels, top1000 or triples, or Parquet that ``make-data`` wrote.
        rows: How many rows to read at most.
        seed: Of what is drawn where the files do not tell requests apart.

    Raises:
        UserError: It is none of these, or broken; the message says where.
    """
    from rankers.data.shard_forms import open_sharded

    shards = open_sharded(path, rows=rows, seed=seed)
    if shards is not None:
        log = shards.read(shards.pieces)
        return log if rows is None else log.first(rows)
    if path.is_dir():
        if _has_collection(path):
            from rankers.data.msmarco import read_msmarco

            return read_msmarco(path, rows=rows, seed=seed)
        from rankers.data.movielens import read_movielens

        return read_movielens(path, rows=rows)
    if path.suffix == ".toml":
        from rankers.data.table import read_table
        from rankers.data.table_schema import load_table_schema

        schema = load_table_schema(path)
        if schema.data is None:
            raise UserError(f'{path}: names no table; add data = "FILE", relative to the schema')
        return read_table(path.parent / schema.data, schema, rows=rows, seed=seed)
    try:
        with path.open("rb") as file:
            start = file.read(len(_PARQUET))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if start == _PARQUET:
        from rankers.data.parquet import read_parquet

        log = read_parquet(path)
        return log if rows is None else log.first(rows)
    return _read_text(path, rows=rows, seed=seed)


def files_of(path: Path) -> list[Path]:
    """Return the files that a log is read from: what its identity depends on."""
    if path.is_dir():
        if _has_collection(path):
            from rankers.data.msmarco import msmarco_files

            return msmarco_files(path)
        return sorted(each for each in path.iterdir() if each.is_file())
    if path.suffix == ".toml":
        from rankers.data.table_schema import load_table_schema

        schema = load_table_schema(path)
        files = [path] if schema.data is None else [path, path.parent / schema.data]
        return files if schema.tokenizer is None else [*files, Path(schema.tokenizer)]
    from rankers.data.msmarco_files import form_of

    if form_of(_first_line(path)) is not None:
        from rankers.data.msmarco import msmarco_files

        return msmarco_files(path)
    beside = [path.with_name(path.name + suffix) for suffix in (".query", ".group")]
    return [path, *(each for each in beside if each.is_file())]


def _read_text(path: Path, *, rows: int | None, seed: int) -> RankingLog:
    """Tell text formats by their first line."""
    from rankers.data.amazon import is_amazon, read_amazon
    from rankers.data.avazu import is_avazu, read_avazu
    from rankers.data.criteo import read_criteo
    from rankers.data.letor import is_letor, read_letor
    from rankers.data.msmarco_files import form_of

    first = _first_line(path)
    if is_amazon(first):
        return read_amazon(path, rows=rows, seed=seed)
    if is_avazu(first):
        return read_avazu(path, rows=rows, seed=seed)
    if is_letor(first):
        return read_letor(path, rows=rows)
    if form_of(first) is not None:
        from rankers.data.msmarco import read_msmarco

        return read_msmarco(path, rows=rows, seed=seed)
    if first.count("\t") == 1 and " " in first.partition("\t")[2]:
        raise UserError(
            f"{path}: holds IDs and texts alone; give the qrels or top1000 beside it that judge "
            "them"
        )
    return read_criteo(path, rows=rows, seed=seed)


def _first_line(path: Path) -> str:
    from rankers.data.lines import stream_lines

    _, lines = next(stream_lines(path, chunk_bytes=1 << 16), (1, [b""]))
    return lines[0].decode("utf-8-sig", "replace").strip()


def _has_collection(folder: Path) -> bool:
    """Return whether a folder is one of MS MARCO's files."""
    return any(folder.glob("collection*"))
