"""Folders of Parquet shards by what is in them: any table by a schema, or what make-data wrote."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankers.data.log import RankingLog
from rankers.data.shards import ShardedLog, open_shards, shard_files
from rankers.errors import UserError
from rankers.text import TOKENIZER, read_tokenizer

if TYPE_CHECKING:
    from rankers.data.table_columns import Place
    from rankers.data.table_schema import TableSchema
    from rankers.features import Signature
    from rankers.requests import Array


@dataclass(frozen=True, slots=True)
class TableShards:
    """Shards of a table that a schema describes."""

    schema: TableSchema

    @property
    def signature(self) -> Signature:
        """The schema's."""
        return self.schema.signature

    @property
    def columns(self) -> tuple[str, ...]:
        """The schema's."""
        return self.schema.columns

    @property
    def request(self) -> str | None:
        """The schema's."""
        return self.schema.request

    def check(self, path: Path, names: list[str]) -> None:
        """Check that every column is there once."""
        from rankers.data.table import check_names

        check_names(path, self.schema, names)

    def log(self, where: Place, table: Any, offsets: Array) -> RankingLog:
        """Parse the columns as `rankers.data.table` does."""
        from rankers.data.table import parse_table, requests_of

        columns = parse_table(where, table, self.schema)
        requests = requests_of(where, self.schema, columns, offsets)
        return RankingLog(requests, self.schema.signature)


@dataclass(frozen=True, slots=True)
class MadeShards:
    """Shards that ``make-data`` wrote: Criteo's columns, requests and true probabilities."""

    @property
    def signature(self) -> Signature:
        """The synthetic log's."""
        from rankers.data.synthetic import SIGNATURE

        return SIGNATURE

    @property
    def columns(self) -> tuple[str, ...]:
        """All."""
        from rankers.data.parquet import COLUMNS

        return COLUMNS

    @property
    def request(self) -> str:
        """The column of requests."""
        return "request"

    def check(self, path: Path, names: list[str]) -> None:
        """Check that every column is there."""
        missing = [each for each in self.columns if each not in names]
        if missing:
            raise UserError(
                f"{path}: column {missing[0]!r} is missing, so it is not what make-data writes; "
                'say what the columns are in a .toml schema with data = "FOLDER"'
            )

    def log(self, where: Place, table: Any, offsets: Array) -> RankingLog:
        """Parse the columns as `rankers.data.parquet` does."""
        from rankers.data.parquet import log_of

        del offsets  # found from the request column again
        return log_of(
            f"{where.source}, rows counted from its row {where.first}",
            {name: table[name].to_numpy() for name in self.columns},
        )


def find_shards(path: Path) -> tuple[Path, TableSchema | None] | None:
    """Return the folder of shards that ``path`` stands for, and its schema; None if it is none.

    Args:
        path: A folder with Parquet files, or a ``.toml`` schema whose ``data`` is such a folder.

    Raises:
        UserError: The schema cannot be read.
    """
    if path.is_dir():
        return (path, None) if shard_files(path) else None
    if path.suffix != ".toml":
        return None
    from rankers.data.table_schema import load_table_schema

    schema = load_table_schema(path)
    if schema.data is None or not (path.parent / schema.data).is_dir():
        return None
    return path.parent / schema.data, schema


def open_sharded(path: Path, *, rows: int | None = None, seed: int = 0) -> ShardedLog | None:
    """Open the shards that ``path`` stands for; None if it stands for something else.

    Args:
        path: As in `find_shards`.
        rows: How many rows at most, up to a whole piece.
        seed: Of the requests' sizes, where nothing says which rows are of one request.

    Raises:
        UserError: As `rankers.data.shards.open_shards`.
    """
    found = find_shards(path)
    if found is None:
        return None
    folder, schema = found
    if schema is None:
        log = open_shards(folder, MadeShards(), seed=seed)
    else:
        text = next((each.name for each in schema.features if each.kind == "text"), None)
        if text is not None:
            raise UserError(
                f"{path}: feature {text!r} is a text; shards are read with token IDs only (kind "
                '"id" with a length, and tokenizer): make them first'
            )
        log = open_shards(folder, TableShards(schema), seed=seed)
        if schema.tokenizer is not None:
            content = read_tokenizer(Path(schema.tokenizer))
            log = replace(log, files={TOKENIZER: content})
    return log if rows is None else log.first(rows)
