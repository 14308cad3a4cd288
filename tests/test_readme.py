"""The README says what is so: its help is the commands', its example runs."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from in_process import children_in_this_process

from optimize.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def load_script():
    location = importlib.util.spec_from_file_location("readme", ROOT / ".ci" / "readme.py")
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def test_the_help_in_the_readme_is_what_the_commands_print():
    assert load_script().with_help(README) == README, "run: python .ci/readme.py"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.end_to_end
def test_the_readmes_own_ranker_goes_through_the_recipe(tmp_path):
    name, code = re.search(
        r"<!-- example: (\S+) -->\n```python\n(.*?)```", README, re.DOTALL
    ).groups()
    (tmp_path / name).write_text(code)
    arguments = ["run", f"{tmp_path / name}:ranker", "--out", str(tmp_path / "out"), "--json"]
    with children_in_this_process():
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["passed"]
