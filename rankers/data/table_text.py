"""Columns of texts in a table: their vocabulary, given or learned, and their token IDs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankers.data.vocabulary import train_wordpiece
from rankers.text import TextEncoder, load_tokenizer, read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rankers.data.table_schema import TableSchema

# The share of rows whose texts make a vocabulary: those that are trained on by default.
LEARNED = 0.8


def text_columns(
    schema: TableSchema, tables: Callable[[], Iterator[Any]], rows: int | None
) -> tuple[TableSchema, TextEncoder | None, bytes]:
    """Find out how a table's texts become token IDs.

    Args:
        schema: Of the table.
        tables: Reads it in pieces, as Arrow tables.
        rows: How many rows are read at most.

    Returns:
        The schema with the number of tokens, the encoder, and what its ``tokenizer.json`` holds;
        the schema as it is, the tokenizer that it names if any and no encoder for no texts.

    Raises:
        UserError: There is no such tokenizer, or a piece of the table is broken.
    """
    named = [each for each in schema.features if each.kind == "text"]
    content = b"" if schema.tokenizer is None else read_tokenizer(Path(schema.tokenizer))
    if not named:
        return schema, None, content
    if not content:
        total = sum(each.num_rows for each in tables())
        learned = max(1, round(LEARNED * min(total, rows or total)))

        def texts() -> Iterator[str]:
            for each in named:
                column = (value for table in tables() for value in table[each.column].to_pylist())
                yield from (str(x) for x in itertools.islice(column, learned) if x is not None)

        content = train_wordpiece(texts, schema.tokens)
    size = load_tokenizer(content).get_vocab_size(with_added_tokens=True)
    features = tuple(
        replace(each, cardinality=size) if each.kind == "text" else each for each in schema.features
    )
    sized = replace(schema, features=features)
    return sized, TextEncoder(content, sized.signature), content
