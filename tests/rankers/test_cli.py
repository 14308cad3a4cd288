from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from rankers.cli import main


def run(*arguments):
    """Run it as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "rankers", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def run_here(*arguments):
    """Give the same to this process, which need not start first."""
    return CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)


def refused(*arguments):
    """Run, expect a refusal, and return its one line."""
    done = run_here(*arguments)
    assert done.exit_code == 2, done.stderr
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_help_imports_no_heavy_library():
    code = (
        "import sys, rankers.cli\n"
        "from click.testing import CliRunner\n"
        "for args in (['--help'], ['train', '--help'], ['evaluate', '--help'], ['list']):\n"
        "    assert CliRunner().invoke(rankers.cli.main, args).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'sklearn', 'pyarrow', 'scipy'}\n"
        "print(heavy & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


def test_list_names_the_zoo():
    assert json.loads(run("list", "--json").stdout)["rankers"][0]["name"] == "dlrm"


def test_data_is_made_trained_on_kept_and_replaced_on_demand(tmp_path):
    data, out = tmp_path / "log.parquet", tmp_path / "dlrm"
    made = json.loads(run_here("make-data", "--rows", 3000, "--out", data, "--json").stdout)
    assert made["rows"] >= 3000
    command = ("train", "dlrm", "--data", data, "--out", out, "--json")
    first = json.loads(run(*command).stdout)
    assert first["kept"] is False
    assert 0 < first["training"]["best_auc"] < 1
    again = json.loads(run_here(*command).stdout)
    assert again == {**first, "kept": True}
    assert "another checkpoint" in refused(*command, "--seed", "1")
    forced = json.loads(run_here(*command, "--seed", "1", "--force").stdout)
    assert forced["training"]["options"]["seed"] == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dlrm", "log.parquet"]


def test_real_rows_are_trained_on(criteo_sample, tmp_path):
    done = run_here("train", "dlrm", "--data", criteo_sample, "--out", tmp_path / "dlrm", "--json")
    training = json.loads(done.stdout)["training"]
    assert training["rows"] + training["evaluation_rows"] == 200
    assert training["best_auc"] is None


def test_a_missing_data_file_is_refused(tmp_path):
    line = refused("train", "dlrm", "--data", tmp_path / "nothing.tsv", "--out", tmp_path / "out")
    assert "no data file" in line
    assert "nothing.tsv" in line


def test_a_broken_data_file_is_refused_with_its_line(tmp_path):
    (tmp_path / "log.tsv").write_text("0\t1\t2\n")
    line = refused("train", "dlrm", "--data", tmp_path / "log.tsv", "--out", tmp_path / "out")
    assert "log.tsv line 1: 3 column(s); expected 40" in line
    assert not (tmp_path / "out").exists()


def test_an_unknown_ranker_is_answered_with_the_nearest(tmp_path):
    assert "did you mean 'dlrm'?" in refused("train", "dlmr", "--out", tmp_path / "out")


def test_an_unknown_command_is_answered_with_the_nearest():
    line = refused("trian")
    assert "unknown command 'trian'; did you mean 'train'?" in line
    done = run("trian")
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (2, "", [line])


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_folder_that_is_no_checkpoint_is_never_replaced(tmp_path, force):
    (tmp_path / "precious").touch()
    assert "is no checkpoint" in refused("train", "dlrm", "--out", tmp_path, *force)
    assert (tmp_path / "precious").exists()
