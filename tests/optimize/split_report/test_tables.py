"""The report's figures, in words and tables."""

from __future__ import annotations

import dataclasses

from optimize.split_report.drawing import TIMES
from optimize.split_report.tables import rewrite_texts, sentences, tables, work_json


def cells(table, name):
    return next(row for row in table.rows if row[0] == name)


def test_both_forms_stand_side_by_side_with_how_many_times_less_the_split_takes(shop):
    work, _ = tables(shop)
    assert work.columns == ("", "flat", "split", "times less")
    assert cells(work, "multiply-adds, the user's") == (
        "multiply-adds, the user's", "8.00 M", "40.0 k", "200",
    )  # fmt: skip
    assert cells(work, "multiply-adds")[1:] == ("10.0 M", "2.04 M", "4.90")
    assert cells(work, "bytes read from tables")[1:] == ("4.00 MB", "20.0 kB", "200")
    assert cells(work, "operators, of both")[1:] == ("2", "2", "")


def test_the_wire_is_told_of_as_it_is_and_as_flat_rows_would_be(shop):
    _, by_candidates = tables(shop)
    # 100 IDs of 8 bytes for the user; an ID and a float for each candidate.
    assert cells(by_candidates, "1")[-2:] == ("812 B", "812 B")
    assert cells(by_candidates, "200")[-2:] == ("162 kB", "3.20 kB")
    assert work_json(shop)["wire_bytes"]["200"] == {"flat": 200 * 812, "packed": 800 + 200 * 12}


def test_expected_times_are_of_both_forms_and_called_no_measurement(shop):
    _, by_candidates = tables(shop)
    assert cells(by_candidates, "200")[1:4] == ("4.00", "1.00", "4.00")
    assert "no measurement" in by_candidates.note


def test_where_no_gain_is_expected_it_is_said_for_how_many_candidates(shop):
    said = list(sentences(shop))
    assert said[0] == "The user's part is computed once a request: 6% is left."
    assert "80% of the flat program's multiply-adds depend on the user alone" in said[1]
    (small,) = [each for each in said if "no gain is expected" in each]
    assert small.startswith("At N = 1 no gain is expected (120% of the flat form's time)")


def test_a_kept_flat_form_is_told_with_its_reason_and_what_the_other_would_have_taken(kept):
    assert next(sentences(kept)) == "The flat program was kept: rows mix."
    work, by_candidates = tables(kept)
    assert work.columns[1:3] == ("flat (kept)", "split (not kept)")
    untried = dataclasses.replace(kept, after=None)
    work, by_candidates = tables(untried)
    assert work.columns == ("", "flat (kept)")
    assert by_candidates.columns[:2] == ("N", "flat (kept), ms")
    assert all(len(row) == len(by_candidates.columns) for row in by_candidates.rows)


def test_of_a_program_that_could_not_be_read_the_wire_is_still_told(kept):
    unread = dataclasses.replace(kept, before=None, after=None)
    (by_candidates,) = tables(unread)
    assert by_candidates.columns == ("N", "wire, flat rows", "wire, as sent")
    assert list(sentences(unread)) == ["The flat program was kept: rows mix."]


def test_rewrites_are_told_with_their_counts_each_line_once(shop):
    assert list(rewrite_texts(shop)) == [f"Rewrite linear_layers, 3{TIMES}: a layer; another."]
