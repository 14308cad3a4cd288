"""Avazu's click log (Kaggle 2014): CSV with a header, 22 categories, no numbers.

Rows are in the order of time, and nothing says which were shown together: as with Criteo's files,
every feature is an item's and requests are runs of consecutive rows. Of ``hour`` (YYMMDDHH) the
hour of the day is kept, as the day never comes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankers.data.log import RankingLog
from rankers.data.table import read_table
from rankers.data.table_schema import TableFeature, TableSchema
from rankers.errors import UserError
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from pathlib import Path

CATEGORIES = (
    "C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain",
    "app_category", "device_id", "device_ip", "device_model", "device_type", "device_conn_type",
    "C14", "C15", "C16", "C17", "C18", "C19", "C20", "C21",
)  # fmt: skip
BUCKETS = 10_000
_HOUR = "hour"


def is_avazu(header: str) -> bool:
    """Return whether a file with this first line is Avazu's."""
    names = header.split(",")
    return {"click", _HOUR, "banner_pos", "device_ip"} <= set(names)


def read_avazu(
    path: Path, *, buckets: int = BUCKETS, rows: int | None = None, seed: int = 0
) -> RankingLog:
    """Read ``train.csv``, plain or gzipped, to a log.

    Args:
        path: The file.
        buckets: How many IDs each category is hashed to, besides 0 for missing.
        rows: How many rows to read at most.
        seed: Of the requests' sizes.

    Raises:
        UserError: The file is missing, empty or broken; the message names the line.
    """
    named = [TableFeature(_HOUR, _HOUR, cardinality=10**8)]
    named += [TableFeature(each, each, buckets=buckets) for each in CATEGORIES]
    log = read_table(path, TableSchema("click", tuple(named)), rows=rows, seed=seed)
    hours = TableFeature(_HOUR, _HOUR, cardinality=24)
    items = dict(log.requests.items)
    items[_HOUR] = np.ascontiguousarray(items[_HOUR] % 100)
    if (wrong := items[_HOUR] > 23).any():
        row = int(np.argmax(wrong))
        found = log.requests.items[_HOUR][row]
        raise UserError(f"{path} line {row + 2}: the hour is {found}; expected YYMMDDHH")
    return RankingLog(
        RequestBatch({}, items, log.requests.offsets, log.requests.labels),
        TableSchema("click", (hours, *named[1:])).signature,
    )
