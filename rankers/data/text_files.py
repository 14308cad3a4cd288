"""The synthetic log of texts as files: in MS MARCO's layout, or as a table of token IDs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rankers.data.synthetic_text import DOCUMENT, QUERY, SIGNATURE, TextModel
from rankers.errors import UserError
from rankers.files import new_folder
from rankers.text import TOKENIZER

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMA = """\
data = "log.parquet"
label = "label"
request = "request"
tokenizer = "tokenizer.json"
"""
_FEATURE = """
[features.{name}]
side = "{side}"
cardinality = {cardinality}
length = {length}
"""


def write_texts(folder: Path, rows: int, model: TextModel | None = None) -> int:
    """Write ``queries.tsv``, ``collection.tsv``, ``top1000.tsv`` and ``qrels.tsv``.

    Query and passage IDs count requests and rows, so equal texts are passages of their own. What
    was clicked has grade 1 in the qrels; the rest is in none.

    Args:
        folder: Where they appear together; one that is there stays as it is.
        rows: How many candidates at least; the last request is not cut.
        model: What draws the log.

    Returns:
        How many candidates were written.

    Raises:
        UserError: ``folder`` is there already.
    """
    _free(folder)
    query = row = 0
    with new_folder(folder) as aside, contextlib.ExitStack() as stack:
        names = ("queries", "collection", "top1000", "qrels")
        files = {each: stack.enter_context((aside / f"{each}.tsv").open("w")) for each in names}
        for block in (model or TextModel()).texts(rows):
            for request in block.requests:
                asked = request.user[QUERY][0]
                files["queries"].write(f"{query}\t{asked}\n")
                assert request.labels is not None  # noqa: S101 - the grammar always draws labels
                labels = request.labels.tolist()
                for text, label in zip(request.items[DOCUMENT], labels, strict=True):
                    files["collection"].write(f"{row}\t{text}\n")
                    files["top1000"].write(f"{query}\t{row}\t{asked}\t{text}\n")
                    if label:
                        files["qrels"].write(f"{query}\t0\t{row}\t1\n")
                    row += 1
                query += 1
    return row


def write_tokens(folder: Path, rows: int, model: TextModel | None = None) -> int:
    """Write ``log.parquet`` of token IDs, its ``schema.toml`` and the ``tokenizer.json``.

    Args:
        folder: As for `write_texts`.
        rows: See there.
        model: See there.

    Returns:
        How many candidates were written.

    Raises:
        UserError: ``folder`` is there already.
    """
    import pyarrow as pa
    from pyarrow import parquet

    _free(folder)
    model = model or TextModel()
    requests = written = 0
    lists = pa.list_(pa.int32())
    schema = pa.schema(
        [("request", pa.int64()), ("label", pa.int8()), (QUERY, lists), (DOCUMENT, lists)]
    )
    with new_folder(folder) as aside:
        with parquet.ParquetWriter(aside / "log.parquet", schema) as writer:
            for block in model.blocks(rows):
                batch, flat = block.requests, block.requests.flat()
                count = batch.candidates
                request = [x + requests for x, size in enumerate(count) for _ in range(size)]
                tokens = [[row[row != 0] for row in flat[name]] for name in (QUERY, DOCUMENT)]
                assert batch.labels is not None  # noqa: S101 - the grammar always draws labels
                labels = batch.labels.astype("int8")
                writer.write_table(pa.table([request, labels, *tokens], schema=schema))
                requests, written = requests + len(batch), written + batch.rows
        text = _SCHEMA
        for each in SIGNATURE.features:
            text += _FEATURE.format(
                name=each.name, side=each.side, cardinality=each.cardinality, length=each.width
            )
        (aside / "schema.toml").write_text(text)
        (aside / TOKENIZER).write_bytes(model.tokenizer())
    return written


def _free(folder: Path) -> None:
    if folder.exists():
        raise UserError(f"{folder}: is there already; choose another --out")
