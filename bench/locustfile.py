"""Locust users that rank: ``locust -f bench/locustfile.py --host grpc://host:port/model``.

With ``--rate`` the loop is open: each of ``--streams`` users draws a schedule of its own and sends
every arrival in a greenlet at its due time, whether or not earlier ones were answered. Response
times count from when a request was due. Independent Poisson streams add up to one, so they may be
spread over processes and machines (``--processes``, ``--master``/``--worker``) in any way. Without
``--rate`` the loop is closed: ``-u`` users who each wait for an answer before they send again.

Beside its requests, Locust's table, CSV files and web page get a row of candidates (its
"requests/s" are candidates/s) and one of the requests within ``--slo`` (goodput).
"""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before any channel is opened: gRPC's calls would block every greenlet otherwise.
import_module("grpc.experimental.gevent").init_gevent()

import locust.stats  # noqa: E402 - see above
import numpy as np  # noqa: E402 - see above
from gevent.pool import Pool  # noqa: E402 - see above
from locust import LoadTestShape, User, events, task  # noqa: E402 - see above

from bench import arrivals, locust_report  # noqa: E402 - see above
from bench.alarm import Alarm  # noqa: E402 - see above
from bench.targets import open_target  # noqa: E402 - see above
from bench.workload import draw_workload, make_workload  # noqa: E402 - see above
from rankers.errors import UserError  # noqa: E402 - see above

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.targets import Target
    from bench.workload import Workload

_CHUNK = 1000

# Locust's documented place for a rounding of one's own; its own is to whole milliseconds.
_stats: Any = locust.stats
_stats.bucket_response_time = locust_report.bucket_ms


def _add_options(parser: Any) -> None:
    group = parser.add_argument_group("Ranking")
    for name, default, text in (
        ("--rate", 0.0, "Open loop: arrivals per second over all streams; 0: closed loop."),
        ("--arrivals", "poisson", "Of the open loop: poisson, constant or bursts:factor=4,...."),
        ("--streams", 4, "Users that share the rate; at least one for each worker."),
        ("--in-flight", 64, "Requests of a stream under way at once; more are dropped."),
        ("--workload", "interactive", "A name of `python -m bench workloads`, or a .toml file."),
        ("--requests", "", "Requests to send, in place of a workload (safetensors, Parquet)."),
        ("--slo", 10.0, "Goodput counts the requests within this many milliseconds."),
        ("--draw-seed", 0, "Of requests and arrivals."),
        ("--ranking-json", "", "Write percentiles, candidates/s and goodput to this file."),
    ):
        group.add_argument(name, type=type(default), default=default, help=text)


class RankingShape(LoadTestShape):
    """As many users as streams in an open loop, as ``-u`` says in a closed one."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are to be now, or None when the run is over."""
        runner: Any = self.runner
        options = runner.environment.parsed_options
        seconds: float = self.get_run_time()  # type: ignore[no-untyped-call]  # Locust's own
        if options.run_time and seconds > float(options.run_time):
            return None
        if options.rate > 0:
            return options.streams, float(options.streams)  # all at once
        return options.num_users or 1, options.spawn_rate or 1.0


class RankUser(User):
    """One stream of an open loop, or one caller of a closed one."""

    _started = 0  # users of this process so far

    def on_start(self) -> None:
        """Take the process's connection and requests; draw a schedule of one's own."""
        options = self.environment.parsed_options
        self._target, self._prepared, self._sizes = _opened(self.environment)
        index = getattr(self.environment.runner, "worker_index", 0)
        number = RankUser._started
        RankUser._started += 1
        # Every stream of every worker draws another schedule and begins at another request.
        self._random = np.random.default_rng([options.draw_seed, index, number])
        self._next = int(self._random.integers(len(self._prepared)))
        self._pool = Pool(options.in_flight)
        self._alarm = Alarm()

    def on_stop(self) -> None:
        """Wait a moment for what is under way."""
        self._pool.join(timeout=1.0)
        self._pool.kill(block=False)
        self._alarm.close()

    @task
    def rank(self) -> None:
        """Send one request and wait, or, in an open loop, send the whole schedule."""
        if self.environment.parsed_options.rate <= 0:
            self._send(self._place(), time.perf_counter())
            return
        for due in self._schedule():
            self._alarm.sleep_until(due)
            place = self._place()
            if self._pool.full():
                self._report(place, None, Dropped("all of --in-flight were under way"))
            else:
                self._pool.spawn(self._send, place, due)

    def _schedule(self) -> Iterator[float]:
        """Yield due times of ``time.perf_counter``, without end."""
        options = self.environment.parsed_options
        begin = time.perf_counter()
        while True:
            seed = int(self._random.integers(2**31))
            rate = options.rate / options.streams
            chunk = arrivals.draw(options.arrivals, rate, count=_CHUNK, seed=seed)
            yield from (begin + chunk).tolist()
            begin += float(chunk[-1])

    def _place(self) -> int:
        self._next = (self._next + 1) % len(self._prepared)
        return self._next

    def _send(self, place: int, due: float) -> None:
        error: Exception | None = None
        try:
            self._target(self._prepared[place])
        except Exception as raised:  # noqa: BLE001 - whatever is raised is a failed request
            error = raised
        self._report(place, (time.perf_counter() - due) * 1e3, error)

    def _report(self, place: int, response_ms: float | None, error: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type=locust_report.METHOD,
            name=locust_report.REQUESTS,
            response_time=response_ms,
            response_length=self._sizes[place] * 4,
            exception=error,
            context={},
        )
        if error is None and response_ms is not None:
            slo_ms = self.environment.parsed_options.slo
            locust_report.count(
                self.environment.stats,
                candidates=self._sizes[place],
                within=response_ms <= slo_ms,
                slo_ms=slo_ms,
            )


class Dropped(Exception):  # noqa: N818 - an outcome
    """An arrival that was not sent, because too many were under way."""


def _check(environment: Any, **_: Any) -> None:
    """Say a mistake in one line before users start, and end with the exit code of wrong use."""
    options = environment.parsed_options
    try:
        if options.rate > 0:
            arrivals.check_pattern(options.arrivals)
        _opened(environment)
    except UserError as error:
        print(f"error: {error}", flush=True)  # noqa: T201 - Locust's own console
        environment.process_exit_code = 2
        environment.runner.quit()


def _close(**_: Any) -> None:
    for target, _prepared, _sizes in _OPENED.values():
        target.close()
    _OPENED.clear()


def _summarize(environment: Any, **_: Any) -> None:
    """Print percentiles with intervals where the statistics of all workers come together."""
    if type(environment.runner).__name__ == "WorkerRunner":
        return
    summary = locust_report.summarize(environment.stats, slo_ms=environment.parsed_options.slo)
    print(locust_report.text(summary), flush=True)  # noqa: T201 - Locust's own console
    if environment.parsed_options.ranking_json:
        locust_report.write(summary, Path(environment.parsed_options.ranking_json))


_OPENED: dict[str, tuple[Target, list[Any], list[int]]] = {}


def _opened(environment: Any) -> tuple[Target, list[Any], list[int]]:
    """Return this process's target, prepared requests and their candidates; made once."""
    options = environment.parsed_options
    spec = environment.host or options.host or ""
    if options.streams < 1 or options.in_flight < 1:
        raise UserError("--streams and --in-flight are 1 or more")
    if spec not in _OPENED:
        if "://" not in spec:
            raise UserError(f"--host {spec!r} is not of the form grpc://host:port/model")
        target = open_target(spec)
        workload = _workload(target, options)
        prepared = [target.prepare(each) for each in workload.requests]
        _OPENED[spec] = (target, prepared, workload.requests.candidates.tolist())
    return _OPENED[spec]


def _workload(target: Target, options: Any) -> Workload:
    from bench.request_log import load_log
    from bench.workload_recipe import load_recipe

    signature = getattr(target, "signature", None)
    if options.requests:
        log = load_log(Path(options.requests), signature)
        return draw_workload(log, seed=options.draw_seed)
    return make_workload(load_recipe(options.workload), signature, seed=options.draw_seed)


_hooks: Any = events
_hooks.init_command_line_parser.add_listener(_add_options)
_hooks.test_start.add_listener(_check)
_hooks.quitting.add_listener(_summarize)
_hooks.quit.add_listener(_close)
