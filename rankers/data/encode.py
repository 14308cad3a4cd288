"""Requests out of raw values, by the schema that training read its table with.

Where a ranker is served, the same values have to become the same IDs and numbers as in training:
the same hashes, the same row for IDs out of the vocabulary, the same stand-in for what is missing,
the same transforms. This is the same code. A checkpoint trained by a schema keeps it as
``schema.toml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankers.data.table_columns import Place, feature_column
from rankers.data.table_schema import TableSchema, load_table_schema
from rankers.errors import nearest
from rankers.requests import RankingRequest, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rankers.requests import Columns

SCHEMA = "schema.toml"


@dataclass(frozen=True, slots=True)
class RequestEncoder:
    """Makes requests of raw values.

    Attributes:
        schema: That training read its table with.
    """

    schema: TableSchema

    @classmethod
    def load(cls, path: Path) -> RequestEncoder:
        """Read the schema of a checkpoint folder, or a schema's file.

        Raises:
            UserError: There is none, or it is broken.
        """
        return cls(load_table_schema(path / SCHEMA if path.is_dir() else path))

    def request(
        self, user: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
    ) -> RankingRequest:
        """Encode one request.

        Args:
            user: The values of the user's columns, by the names of the table's columns.
            items: The values of each candidate's columns. None stands for a missing value; what
                other columns hold is not read.

        Raises:
            RequestError: There are no candidates, or a column is missing.
            UserError: A value does not fit the schema; the message names the feature and candidate.
        """
        if not items:
            raise RequestError("the request has no candidates; at least 1 is needed")
        return RankingRequest(
            user=self._columns("user", [user]), items=self._columns("item", items)
        )

    def _columns(self, side: str, rows: Sequence[Mapping[str, Any]]) -> Columns:
        import pyarrow as pa

        where = Place("the request's", 0, "user" if side == "user" else "candidate")
        columns: Columns = {}
        for each in self.schema.features:
            if each.side != side:
                continue
            for place, row in enumerate(rows):
                if each.column not in row:
                    raise RequestError(
                        f"{where.of(place)}: column {each.column!r} of feature {each.name!r} is "
                        f"missing; None says that it is not known; {nearest(each.column, row)}"
                    )
            values = [row[each.column] for row in rows]
            try:
                column = pa.chunked_array([pa.array(values)])
            except (pa.ArrowException, OverflowError) as error:
                raise RequestError(
                    f"{where.of(0)}: column {each.column!r}: {error}; expected values of one type"
                ) from error
            columns[each.name] = feature_column(where, each, column)
        return columns
