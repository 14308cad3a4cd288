"""Dense int8: what is built, measured against fp32, and judged."""

from __future__ import annotations

import json
from pathlib import Path

import layered_rankers
import pytest

from bench.validation import dense_int8
from bench.validation.dense_int8 import (
    ASKED,
    FORMS,
    FP32,
    INT8,
    describe_gates,
    describe_speed,
    fastest_int8,
    row,
)
from bench.validation.result import earlier
from rankers.errors import UserError

ROOT = Path(__file__).parents[3]
RANKER = f"{layered_rankers.FILE}:plain"


def test_every_form_is_measured_against_fp32_and_judged(tmp_path):
    found = dense_int8.speed(RANKER, 20, tmp_path, openings=1, seconds=0.1)
    assert set(found["measured"]["targets"]) == set(FORMS)
    assert set(found["times_as_fast_at_p50"]) == set(FORMS) - {FP32}
    for form in INT8:
        assert any(note.startswith("quantize_") for note in found["notes"][form])
    assert not any("quantize_" in note for note in found["notes"][FP32])

    judged = dense_int8.gates(RANKER, tmp_path)
    assert set(judged) == set(INT8)
    for one in judged.values():
        assert {each["gate"] for each in one["verdicts"]} >= {"parity", "quality"}
        parity = next(each for each in one["verdicts"] if each["gate"] == "parity")
        assert parity["numbers"]["max_abs"] > 0  # int8 does round
    json.dumps([found, judged])


def measured(**speeds):
    return {
        "candidates": 32,
        "measured": {"disturbed": []},
        "times_as_fast_at_p50": {
            form: {"value": speeds.get(form.split()[0], 1.0), "low": 1.0, "high": 3.0}
            for form in FORMS
        },
    }


def test_the_fastest_int8_is_told_with_what_was_asked():
    one = measured(openvino=2.5)
    assert fastest_int8(one)[0] == "openvino int8, static"
    assert describe_speed("cross_encoder", one) == (
        "cross_encoder at N=32: openvino int8, static is 2.50 times (1.00 to 3.00) as fast as "
        "onnx fp32, 1.8 asked"
    )


def test_a_form_that_fails_says_at_which_gate():
    failed = {"gate": "quality", "passed": False, "reason": "AUC -0.1"}
    forms = {
        "dynamic": {"verdicts": [failed | {"passed": True}]},
        "static": {"verdicts": [failed]},
    }
    assert (
        describe_gates("dlrm", forms) == "dlrm, trained: dynamic: passed; static: quality: AUC -0.1"
    )


def test_another_result_is_not_added_to(tmp_path):
    out = tmp_path / "a.json"
    assert earlier(out, {"kind": "a"}) == {"kind": "a"}
    out.write_text('{"kind": "b"}')
    with pytest.raises(UserError, match="another kind"):
        earlier(out, {"kind": "a"})
    out.write_text('{"kind": "a", "environment": {"cpu": "Slide Rule"}}')
    with pytest.raises(UserError, match="another environment"):
        earlier(out, {"kind": "a"})


@pytest.fixture(scope="module")
def committed():
    return json.loads((ROOT / "bench/results/validation/dense-int8.json").read_text())


def test_a_form_that_passes_its_gates_is_as_fast_as_asked_on_every_ranker(committed):
    assert committed["speed"].keys() == committed["gates"].keys() == ASKED.keys()
    for name, (candidates, asked) in ASKED.items():
        one, judged = committed["speed"][name], committed["gates"][name]
        assert one["candidates"] == candidates
        speeds = [one["times_as_fast_at_p50"][form] for form in INT8 if judged[form]["passed"]]
        assert max(each["low"] for each in speeds) >= asked


def test_the_page_on_dense_layers_has_these_figures(committed):
    page = (ROOT / "docs" / "quantization-dense.md").read_text()
    rows = [row(name, one, committed["gates"][name]) for name, one in committed["speed"].items()]
    assert [each for each in rows if each not in page] == []
