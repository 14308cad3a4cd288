"""``optimize check`` on rankers and artifacts: what it prints, and how it ends."""

import json
import re
from pathlib import Path

import example_rankers
import faulty_rankers
import pytest
from click.testing import CliRunner

from optimize.cli import main
from optimize.diagnosis.finding import CODES

TINY = f"{example_rankers.EXAMPLES}:tiny"
FAULTY = Path(faulty_rankers.__file__)
ROOT = Path(__file__).parents[2]


def check(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def test_a_healthy_ranker_passes():
    done = check(TINY)
    assert done.exit_code == 0
    assert done.stdout.startswith("tiny: 0 errors, 0 warnings, 0 notes")


def test_a_warning_passes_too():
    done = check(f"{FAULTY}:embedding_bag")
    assert done.exit_code == 0
    assert "warning embedding-bag" in done.stdout


def test_an_error_fails_and_says_where_and_what_to_do():
    done = check(f"{FAULTY}:softmax_over_the_rows")
    assert done.exit_code == 1
    text = " ".join(done.stdout.split())
    assert "error rows-mix" in text
    assert "at aten.softmax, faulty_rankers.py:" in text
    assert "→ take it over a row's own dimension" in text


@pytest.mark.parametrize("name", ["healthy", "branches_on_values", "cardinality_above_the_table"])
def test_no_line_is_wider_than_a_hundred_columns(name):
    lines = check(f"{FAULTY}:{name}").stdout.splitlines()
    assert lines
    assert max(map(len, lines)) <= 100


def test_json_is_one_object_whatever_the_module_prints():
    done = check(f"{FAULTY}:talks", "--json")
    assert json.loads(done.stdout)["ranker"] == "faulty"
    assert "hello" in done.stderr


def test_json_keeps_its_form():
    data = json.loads(check(f"{FAULTY}:cardinality_above_the_table", "--json").stdout)
    counts = ("errors", "warnings", "notes")
    lists = ("findings", "inputs", "work")
    assert set(data) == {
        *("schema", "ranker", "score", "passed", "parameters", "seconds", *counts, *lists)
    }
    assert (data["schema"], data["passed"], data["errors"]) == (1, False, 1)
    assert data["findings"] == [
        {
            "severity": "error",
            "code": "id-beyond-table",
            "what": "item may be 100, which asks for row 100; item.weight has rows 0 to 99",
            "remedy": data["findings"][0]["remedy"],
            "features": ["item"],
            "module": "item",
            "operator": "aten.embedding",
            "source": data["findings"][0]["source"],
        }
    ]
    assert set(data["inputs"][0]) == {
        *("name", "side", "dtype", "shape", "cardinality", "padding"),
        *("lowest", "highest", "influence"),
    }
    assert set(data["parameters"]) == {"bytes", "table_bytes", "tables", "layers"}
    assert set(data["parameters"]["tables"][0]) == {
        *("name", "shape", "dtype", "bytes", "features", "share")
    }
    assert set(data["work"][0]) == {
        *("candidates", "multiply_adds", "user_multiply_adds", "both_multiply_adds", "bytes"),
        *("table_bytes", "weight_bytes", "activation_bytes"),
        *("multiply_adds_per_candidate", "bytes_per_candidate"),
    }


def test_an_artifact_is_checked_as_one(onnx_artifact):
    done = check(onnx_artifact.folder)
    assert done.exit_code == 1
    assert "✗ gates: no gate has looked at it" in done.stdout


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("dlmr", "did you mean 'dlrm'?"),
        (f"{FAULTY}:nothing_here", "no function 'nothing_here'"),
        (f"{example_rankers.EXAMPLES}:not_a_ranker", "expected a rankers Ranker"),
        (f"{example_rankers.EXAMPLES}:id_out_of_range", "holds the ID 100"),
        (FAULTY.parent, "manifest.json"),
    ],
)
def test_wrong_use_is_one_line(target, said):
    done = check(target)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_documentation_explains_every_code():
    text = (ROOT / "docs" / "check.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (\w+) \|", text, re.MULTILINE))
    assert listed == {code: severity for code, (severity, _) in CODES.items()}
