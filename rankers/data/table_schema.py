"""Which column of a table is what: a small TOML file, read once and checked.

::

    label = "clicked"            # 0 or 1, or grades
    request = "session"          # rows of one request share its value and stand together;
                                 # left out: requests are runs of consecutive rows
    score = "probability"        # or "logit", "relevance"

    [features.user_id]
    side = "user"
    buckets = 100_000            # any text or number, hashed to 1…buckets; missing is 0

    [features.item]
    column = "item_id"           # by default the feature's name
    cardinality = 5000           # IDs as they stand, 0…4999; missing is an error
    oov = true                   # IDs from 5000 up share one more row; left out: they are refused

    [features.tags]
    buckets = 1000
    length = 8                   # a bag: of a list column, or of a text with a separator
    separator = "|"

    [features.price]
    kind = "number"
    transform = "log1p"          # log(1 + x) of x ≥ 0; left out: as it stands
    missing = 0.0                # in place of nothing; left out: missing is an error

    [features.title]
    kind = "text"
    length = 32                  # tokens; a longer text is truncated to its first

With texts, ``tokenizer = "tokenizer.json"`` names their vocabulary, relative to the schema; left
out, at most ``tokens`` are learned from the texts of the first 80 % of the rows.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, get_args

from rankers.data.vocabulary import TOKENS
from rankers.errors import UserError, nearest
from rankers.features import Feature, ScoreKind, Side, Signature

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("id", "number", "text")
TRANSFORMS = ("log1p",)


@dataclass(frozen=True, slots=True)
class TableFeature:
    """One feature of a table.

    Attributes:
        name: Of the feature.
        column: Of the table.
        side: ``user`` or ``item``.
        kind: ``id``, ``number`` or ``text``.
        buckets: Of an ID that is hashed; None where IDs stand as they are.
        cardinality: Of an ID that stands as it is; of a text, once known, how many tokens there
            are.
        oov: Whether IDs from the cardinality up are kept, as one ID: the cardinality itself. The
            feature then has a cardinality of one more.
        length: The most IDs of a bag, None for a single one; the most tokens of a text.
        separator: Between a bag's IDs in a text.
        transform: Of a number: ``log1p``.
        missing: What stands for a missing number.
    """

    name: str
    column: str
    side: Side = "item"
    kind: str = "id"
    buckets: int | None = None
    cardinality: int | None = None
    oov: bool = False
    length: int | None = None
    separator: str | None = None
    transform: str | None = None
    missing: float | None = None

    def __post_init__(self) -> None:
        said = f"feature {self.name!r}"
        if self.side not in get_args(Side):
            raise UserError(f"{said} has side {self.side!r}; it is 'user' or 'item'")
        self._check_kind(said)
        for name in ("buckets", "cardinality", "length"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"{said} has {name} {value!r}; expected 1 or more")

    def _check_kind(self, said: str) -> None:
        """Check that what is given belongs to the kind."""
        if self.kind not in KINDS:
            raise UserError(f"{said} has kind {self.kind!r}; it is 'id', 'number' or 'text'")
        if self.kind == "number":
            if self.buckets or self.cardinality or self.length or self.oov:
                raise UserError(f"{said} is a number; buckets, cardinality, length, oov are of IDs")
            if self.transform not in {None, *TRANSFORMS}:
                raise UserError(f"{said} has transform {self.transform!r}; it is 'log1p' or none")
            return
        if self.transform is not None or self.missing is not None:
            raise UserError(f"{said} is no number; transform and missing are of numbers")
        if not isinstance(self.oov, bool):
            raise UserError(f"{said} has oov {self.oov!r}; it is true or false")
        if self.kind == "id":
            self._check_id(said)
        elif self.length is None:
            raise UserError(f"{said} is a text; give its length, the most tokens it has")
        elif self.buckets or self.separator or self.oov:
            raise UserError(f"{said} is a text; oov, buckets and separator are of IDs")

    def _check_id(self, said: str) -> None:
        if (self.buckets is None) == (self.cardinality is None):
            raise UserError(f"{said}: give buckets to hash into, or the cardinality of its IDs")
        if self.oov and self.cardinality is None:
            raise UserError(f"{said}: oov is of IDs with a cardinality; buckets take every value")

    @property
    def feature(self) -> Feature:
        """The feature that it becomes."""
        if self.kind == "number":
            return Feature(self.name, "float32", (), self.side)
        # One more: 0 for a missing value of a hashed ID; the row of IDs out of the vocabulary.
        ids = self.cardinality if self.buckets is None else self.buckets + 1
        if ids is not None and self.oov:
            ids += 1
        if self.length is None:
            return Feature(self.name, "int64", (), self.side, ids)
        return Feature(self.name, "int64", (self.length,), self.side, ids, padding=0)


@dataclass(frozen=True, slots=True)
class TableSchema:
    """What a table's columns are.

    Attributes:
        label: The column of labels.
        features: In the order in which the signature has them.
        request: The column that rows of one request share; None for runs of consecutive rows.
        score: What a score for these labels means.
        data: The table's file, beside the schema; None where it is named apart.
        tokenizer: The ``tokenizer.json`` of texts, or of the token IDs in the table; None if none.
        tokens: The most tokens that are learned from texts where there is no tokenizer.
    """

    label: str
    features: tuple[TableFeature, ...]
    request: str | None = None
    score: ScoreKind = "probability"
    data: str | None = None
    tokenizer: str | None = None
    tokens: int = TOKENS

    @property
    def signature(self) -> Signature:
        """The features as a ranker's signature."""
        return Signature(tuple(each.feature for each in self.features), self.score)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        named = [self.label, *([self.request] if self.request else [])]
        return tuple(dict.fromkeys([*named, *(each.column for each in self.features)]))


def load_table_schema(path: Path) -> TableSchema:
    """Read a schema.

    Raises:
        UserError: It is missing, not TOML, or says something that cannot be; the message says what.
    """
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not TOML: {error}") from error
    try:
        schema = _schema(data)
        if schema.tokenizer is None:
            return schema
        return replace(schema, tokenizer=str(path.parent / schema.tokenizer))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _schema(data: dict[str, Any]) -> TableSchema:
    _known(data, TableSchema, "")
    if not isinstance(data.get("label"), str):
        raise UserError("label is missing; name the column of labels")
    tables = data.get("features", {})
    if not isinstance(tables, dict) or not tables:
        raise UserError("there are no features; add a table [features.NAME] for each")
    features = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"features.{name} is {table!r}; expected a table [features.{name}]")
        _known(table, TableFeature, f"features.{name}: ")
        features.append(TableFeature(**{"name": name, "column": name} | table))
    schema = TableSchema(**data | {"features": tuple(features)})
    _ = schema.signature  # its own checks: names, score kind, an item feature
    return schema


def _known(data: dict[str, Any], kind: type, where: str) -> None:
    names = [each.name for each in fields(kind)]
    for key in data:
        if key not in names:
            raise UserError(f"{where}unknown key {key!r}; {nearest(key, names)}")
