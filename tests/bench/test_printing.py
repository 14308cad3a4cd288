"""Tables on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from bench.crossover import crossover_table
from bench.printing import draw_tables, remarks
from bench.tables import Table, latency_table


def drawn(table, width):
    console = Console(file=io.StringIO(), width=width)
    draw_tables([table], console)
    return console.file.getvalue()


def test_an_interval_stands_below_its_figure_so_that_80_columns_do(make_measurement):
    text = drawn(latency_table([make_measurement()]), 80)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text


def test_long_sentences_are_broken_and_leave_room_for_the_rest(found_of):
    table = crossover_table(found_of["crossover"])
    rows = tuple((*row[:-1], "cannot tell: " + "a long name, " * 8) for row in table.rows)
    text = drawn(Table(table.title, table.columns, rows), 100)
    assert "closed loop, N = 100 " in text
    assert "…" not in text


def test_remarks_on_measurements_of_one_name_say_of_which_load(make_measurement):
    load = {"mode": "open", "pattern": "poisson", "rate_per_s": 200.0, "workers": None}
    one, other = make_measurement(steal_share=0.3), make_measurement(steal_share=0.3, load=load)
    assert remarks([one])[0].startswith("void: a: 30.0% of CPU time")
    assert [line.partition(": 30")[0] for line in remarks([one, other])] == [
        "void: a, closed, 1 at once; 3 candidates",
        "void: a, open, Poisson 200/s; 3 candidates",
    ]
