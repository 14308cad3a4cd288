"""Requests out of raw values, by the schema that training read its table with.

Where a ranker is served, the same values have to become the same IDs and numbers as in training:
the same hashes, the same row for IDs out of the vocabulary, the same stand-in for what is missing,
the same transforms. This is the same code. A checkpoint trained by a schema keeps it as
``schema.toml``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rankers.data.table_columns import Place, feature_column
from rankers.data.table_schema import TableSchema, load_table_schema
from rankers.data.table_text import text_columns
from rankers.errors import UserError, nearest
from rankers.ranker import FILES
from rankers.requests import RankingRequest, RequestError
from rankers.text import TOKENIZER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rankers.requests import Columns
    from rankers.text import TextEncoder

SCHEMA = "schema.toml"


@dataclass(frozen=True, slots=True)
class RequestEncoder:
    """Makes requests of raw values.

    Attributes:
        schema: That training read its table with.
        texts: What makes token IDs of texts, if there are any.
    """

    schema: TableSchema
    texts: TextEncoder | None = None

    @classmethod
    def load(cls, path: Path) -> RequestEncoder:
        """Read the schema of a checkpoint folder, or a schema's file.

        Raises:
            UserError: There is none, or it is broken.
        """
        if not path.is_dir():
            schema = load_table_schema(path)
        else:
            schema = load_table_schema(path / SCHEMA)
            kept = path / FILES / TOKENIZER
            if kept.is_file():
                schema = replace(schema, tokenizer=str(kept))
        if schema.tokenizer is None and any(each.kind == "text" for each in schema.features):
            raise UserError(f"{path}: has texts, but no tokenizer; give the checkpoint folder")
        schema, texts, _ = text_columns(schema, lambda: iter(()), None)
        return cls(schema, texts)

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
            columns[each.name] = feature_column(where, each, column, self.texts)
        return columns
