"""``locust -f bench/locustfile.py`` against the real server."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import locust_agreement, locust_report

LOCUSTFILE = Path(__file__).parents[2] / "bench" / "locustfile.py"


@pytest.fixture
def locust(tiny_server, tmp_path):
    """Run Locust headless; give its process, the figures it wrote, and its rows by name."""

    def run(*options, host=None):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"),
                *("--host", host or f"grpc://{tiny_server.grpc_url}/tiny", "--csv", "out"),
                *("--ranking-json", "out.json", "--only-summary", *map(str, options)),
            ],
            cwd=tmp_path,
            env={"PYTHONPATH": str(LOCUSTFILE.parents[1]), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        figures, rows = None, {}
        if (tmp_path / "out.json").is_file():
            figures = json.loads((tmp_path / "out.json").read_text())
        if (tmp_path / "out_stats.csv").is_file():
            with (tmp_path / "out_stats.csv").open() as file:
                rows = {row["Name"]: row for row in csv.DictReader(file)}
        return done, figures, rows

    return run


@pytest.mark.end_to_end
class TestOpenLoop:
    @pytest.mark.parametrize("processes", [1, 2])
    def test_keeps_its_rate_and_counts_candidates_and_goodput(self, locust, processes):
        several = () if processes == 1 else ("--processes", processes)
        # A slow machine answers late, but an open loop sends all the same.
        done, figures, rows = locust(
            "--rate", 60, "--run-time", "4s", "--slo", 60_000, "--streams", 2, *several
        )
        assert done.returncode == 0, done.stderr
        assert figures["failed"] == 0
        # Poisson: 240 ± 6 standard deviations, and as much again for start and stop.
        assert 100 < figures["requests"] < 340
        # Locust writes its CSV a moment earlier: what is under way then is answered still.
        assert int(rows["rank"]["Request Count"]) == pytest.approx(figures["requests"], abs=20)
        assert 20 <= figures["candidates_per_s"] / figures["requests_per_s"] <= 50
        assert figures["goodput_per_s"] == pytest.approx(figures["requests_per_s"])
        assert rows["within 60000 ms"]["Request Count"] == rows["rank"]["Request Count"]
        assert rows["Aggregated"]["Request Count"] == rows["rank"]["Request Count"]
        assert "p50" in done.stdout

    def test_drops_what_is_more_than_may_be_under_way(self, locust):
        done, figures, _ = locust(
            "--rate", 2000, "--run-time", "2s", "--in-flight", 1, "--streams", 1
        )
        assert figures["dropped"] > 0, done.stderr
        assert figures["failed"] >= figures["dropped"]
        assert done.returncode == 1


@pytest.mark.end_to_end
def test_a_master_merges_what_its_workers_counted(tiny_server, tmp_path):
    port = _free_port()
    common = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)]
    environment = {"PYTHONPATH": str(LOCUSTFILE.parents[1]), "PATH": "/usr/bin:/bin"}
    options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE,
               "stderr": subprocess.STDOUT, "text": True}  # fmt: skip
    workers = [
        subprocess.Popen([*common, "--worker", "--master-port", str(port)], **options)
        for _ in range(2)
    ]
    try:
        master = subprocess.run(
            [
                *(*common, "--master", "--headless", "--expect-workers", "2", "--only-summary"),
                *("--master-bind-host", "127.0.0.1", "--master-bind-port", str(port)),
                *("--host", f"grpc://{tiny_server.grpc_url}/tiny", "--streams", "2"),
                *("--rate", "60", "--run-time", "8s", "--slo", "60000"),
                *("--ranking-json", "out.json", "--csv", "out"),
            ],
            **options,
            timeout=120,
            check=False,
        )
    finally:
        for each in workers:
            each.terminate()
            each.communicate(timeout=20)
    assert master.returncode == 0, master.stdout
    figures = json.loads((tmp_path / "out.json").read_text())
    # 480 less what a slow start takes of them; one worker alone would have 240, give or take 16.
    assert 300 < figures["requests"] < 610
    assert figures["failed"] == 0
    assert figures["goodput_per_s"] == pytest.approx(figures["requests_per_s"])
    assert figures["response"][0]["quantile"] == 0.5
    with (tmp_path / "out_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    # Its CSV is written a moment earlier.
    assert int(rows["rank"]["Request Count"]) == pytest.approx(figures["requests"], abs=20)
    assert int(rows["candidates scored"]["Request Count"]) > 20 * 80


@pytest.mark.end_to_end
def test_its_web_page_has_the_rows_of_candidates_and_goodput(tiny_server, tmp_path):
    port = _free_port()
    page = f"http://127.0.0.1:{port}"
    web = subprocess.Popen(
        [
            *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--autostart"),
            *("--web-host", "127.0.0.1", "--web-port", str(port), "--rate", "60"),
            *("--host", f"grpc://{tiny_server.grpc_url}/tiny", "--slo", "60000"),
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(LOCUSTFILE.parents[1]), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        rows = _wait_for_rows(f"{page}/stats/requests", web)
        with urllib.request.urlopen(page, timeout=20) as answer:
            assert b"<html" in answer.read()
        with urllib.request.urlopen(f"{page}/stats/requests/csv", timeout=20) as answer:  # noqa: S310
            columns = csv.DictReader(answer.read().decode().splitlines())
            names = {row["Name"] for row in columns}
    finally:
        web.terminate()
        web.communicate(timeout=20)
    assert {"rank", "candidates scored", "within 60000 ms", "Aggregated"} <= names
    assert rows["candidates scored"] >= 20 * rows["within 60000 ms"]


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for_rows(address, process):
    """Ask the page for its statistics until there are 30 requests; give counts by name."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.3)
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - our own
                stats = json.loads(answer.read())["stats"]
        except OSError:
            continue
        rows = {each["name"]: each["num_requests"] for each in stats}
        if rows.get("rank", 0) >= 30:
            return rows
    raise AssertionError(f"no requests on {address}: {process.poll()}")


@pytest.mark.end_to_end
def test_a_closed_loop_waits_for_each_answer(locust):
    done, figures, _ = locust("-u", 2, "-r", 2, "--run-time", "2s", "--workload", "search-rerank")
    assert done.returncode == 0, done.stderr
    assert figures["requests"] > 20
    # Percentiles are finer than Locust's own whole milliseconds.
    assert any(each["value_us"] % 1000 for each in figures["response"])


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        (None, ("--workload", "fed"), "did you mean 'feed'"),
        ("grpc://127.0.0.1:1/tiny", (), "no server answers at 127.0.0.1:1"),
        ("localhost", (), "not of the form grpc://host:port/model"),
        (None, ("--rate", 5, "--arrivals", "burst"), "did you mean 'bursts'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(locust, host, options, said):
    done, _, _ = locust("--run-time", "20s", *options, host=host)
    assert said in done.stdout
    assert done.returncode == 2


@pytest.mark.end_to_end
def test_sends_the_load_that_bench_run_sends(tiny_server):
    done = CliRunner().invoke(
        locust_agreement.main,
        [
            *(f"grpc://{tiny_server.grpc_url}/tiny", "--json"),
            *("--seconds", "3", "--rounds", "2", "--rate", "60"),
        ],
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["sent_the_load"] == {"bench": True, "locust": True}
    for turn in (*found["turns"]["bench"], *found["turns"]["locust"]):
        assert turn["failed"] == 0
        assert turn["candidates_per_request"] == pytest.approx(35, abs=4)  # uniform, 20 to 50
    assert found["ratios"][0]["quantile"] == 0.5
    assert all(each["low"] < each["value"] < each["high"] for each in found["ratios"])


def test_the_committed_comparison_sent_the_load_and_is_told_of_as_it_is():
    file = LOCUSTFILE.parent / "results" / "validation" / "locust-agreement.json"
    found = json.loads(file.read_text())
    assert found["sent_the_load"] == {"bench": True, "locust": True}
    turns = found["turns"]
    ours, theirs = ([locust_turn(each) for each in turns[who]] for who in ("bench", "locust"))
    assert locust_agreement.agreement(ours, theirs) == found["ratios"]
    docs = (LOCUSTFILE.parents[1] / "docs" / "load.md").read_text()
    for each in found["ratios"]:
        assert f"{each['value'] - 1:.0%} ".replace("%", " %") in docs.replace("\n", " ")


def locust_turn(turn):
    """A turn as it was before JSON made texts of its quantiles."""
    values = {float(name): value for name, value in turn["percentiles_us"].items()}
    return turn | {"percentiles_us": values}


class TestAgreement:
    @staticmethod
    def turns(*medians):
        return [{"percentiles_us": {0.5: each, 0.9: 2 * each}} for each in medians]

    def test_is_of_rounds_so_that_noise_of_a_round_is_no_difference(self):
        found = locust_agreement.agreement(self.turns(100, 200, 150), self.turns(210, 95, 160))
        assert [(each["quantile"], each["agree"]) for each in found] == [(0.5, True), (0.9, True)]

    def test_a_difference_in_every_round_is_one(self):
        (found, _) = locust_agreement.agreement(
            self.turns(100, 200, 150, 120), self.turns(121, 239, 182, 143)
        )
        assert found["value"] == pytest.approx(1.2, abs=0.01)
        assert not found["agree"]
        assert found["low"] > 1.15

    def test_is_silent_on_percentiles_that_a_round_lacks(self):
        short = [{"percentiles_us": {0.5: 100}}]
        found = locust_agreement.agreement(self.turns(100, 90), short + self.turns(100))
        assert [each["quantile"] for each in found] == [0.5]


@pytest.fixture
def stats(monkeypatch):
    """Give Locust's statistics; importing it would turn this process's threads to greenlets."""
    monkeypatch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")
    from locust.stats import RequestStats

    return RequestStats()


class TestReport:
    @pytest.mark.parametrize(
        ("given", "kept"), [(0.84213, 0.842), (12.3456, 12.3), (1234.5, 1230.0), (0.0123456, 0.012)]
    )
    def test_response_times_keep_three_digits(self, given, kept):
        assert locust_report.bucket_ms(given) == kept

    def test_rows_of_counts_leave_the_total_alone_and_have_no_percentiles(self, stats):
        for response_ms in (5, 20):
            stats.log_request(locust_report.METHOD, locust_report.REQUESTS, response_ms, 0)
            locust_report.count(stats, candidates=30, within=response_ms <= 10, slo_ms=10)
        assert stats.total.num_requests == 2
        row = stats.get(locust_report.CANDIDATES, locust_report.COUNT)
        assert row.num_requests == 60
        assert row.get_response_time_percentile(0.99) == 0
        assert stats.get("within 10 ms", locust_report.COUNT).num_requests == 1

    def test_a_run_without_requests_is_summarized_too(self, stats):
        summary = locust_report.summarize(stats, slo_ms=10)
        assert summary["requests_per_s"] == 0
        assert "too few" in locust_report.text(summary)
