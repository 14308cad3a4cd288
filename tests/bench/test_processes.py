"""Several generator processes."""

from __future__ import annotations

import json
from functools import partial

import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.measure import Load
from bench.processes import measure_in_processes, share
from bench.targets import open_target
from rankers.errors import UserError


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stack_of_processes.py"
    path.write_text(
        "import os\nimport numpy as np\n"
        "def score(request):\n"
        f"    open(f'{tmp_path}/pid_{{os.getpid()}}', 'w').close()\n"
        "    return np.zeros(request.candidates)\n"
        "def fail(request):\n    raise OSError('no answer')\n"
    )
    return path


class TestShares:
    def test_add_up_to_the_whole(self):
        shares = share(Load(count=10, concurrency=5), 3)
        assert [each.count for each in shares] == [4, 3, 3]
        assert [each.concurrency for each in shares] == [2, 2, 1]
        rates = [each.rate_per_s for each in share(Load(count=10, rate_per_s=300.0), 3)]
        assert rates == [100, 100, 100]

    def test_of_a_rate_have_schedules_of_their_own(self):
        assert len({each.seed for each in share(Load(count=10, rate_per_s=300.0), 4)}) == 4

    @pytest.mark.parametrize(
        ("load", "processes", "said"),
        [
            (Load(concurrency=1), 2, "concurrency of 1 cannot be shared"),
            (Load(rate_per_s=5.0, pattern="constant"), 2, "Poisson ones can"),
            (Load(), 0, "at least 1"),
        ],
    )
    def test_that_cannot_be_are_refused(self, load, processes, said):
        with pytest.raises(UserError, match=said):
            share(load, processes)


def test_processes_send_the_whole_load_together(stack, workload):
    subject = partial(open_target, f"callable:{stack}:score")
    load = Load(count=101, rate_per_s=400.0, warmup=4)
    found = measure_in_processes(subject, workload, load, processes=2)
    assert found.counts.ok == 101
    assert found.response.count == 101
    assert (found.load["rate_per_s"], found.load["processes"]) == (400, 2)
    assert found.counts.candidates == 303
    # Together they take a quarter of a second, one after the other would be half.
    assert found.duration_s == pytest.approx(101 / 400, rel=0.5)
    assert len(list(stack.parent.glob("pid_*"))) == 2


def test_a_failure_in_a_process_is_one_line(stack, workload):
    subject = partial(open_target, f"callable:{stack}:fail")
    with pytest.raises(UserError, match="OSError: no answer"):
        measure_in_processes(subject, workload, Load(count=4, concurrency=2), processes=2)


def test_are_a_choice_of_the_command_line(ranker_file):
    done = CliRunner().invoke(
        main,
        [
            *("run", f"{ranker_file}:ranker", "--count", "40", "--concurrency", "2"),
            *("--processes", "2", "--threads", "1", "--json"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"]["ok"] == 40
