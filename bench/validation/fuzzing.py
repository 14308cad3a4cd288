"""Calls that may end by right scores, or by an error that says what is wrong, and not otherwise."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.validation.hostile_answers import MODEL, SIGNATURE, answer, config, right_scores
from bench.validation.spoilt_requests import spoil, spoil_bytes
from rankers.errors import UserError
from rankers.features import Signature
from rankers.requests import Array, RankingRequest
from rankers.wire import SCORE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.validation.hostile_answers import Answer

# Long enough for a machine that is busy with other things: what takes longer has hung.
PATIENCE_S = 60.0
_THREADS = 4
_LONGEST_MESSAGE = 2_000


@dataclass
class Ends:
    """How calls ended, by kind; and those that ended as none may.

    Attributes:
        by_kind: How often each end came, by what was asked.
        wrong: What was wrong about ends, the first 20.
        wrongs: How many were.
    """

    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    wrongs: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, end: str, wrong: str = "") -> None:
        """Count an end, from any thread."""
        with self._lock:
            self.by_kind.setdefault(kind, Counter())[end] += 1
            if wrong:
                self.wrongs += 1
                if len(self.wrong) < 20:
                    self.wrong.append(f"{kind}: {wrong}")

    @property
    def total(self) -> int:
        """How many calls ended."""
        return sum(sum(each.values()) for each in self.by_kind.values())

    def to_json(self) -> dict[str, Any]:
        """Return the counts, JSON-ready."""
        return {
            "calls": self.total,
            "ended_wrongly": self.wrongs,
            "wrong": self.wrong,
            "ends": {kind: dict(self.by_kind[kind]) for kind in sorted(self.by_kind)},
        }


def attempt(
    ends: Ends,
    kind: str,
    ask: Callable[[], Any],
    *,
    expected: Any = None,
    named: Sequence[str] = (),
) -> None:
    """Ask, and count how it ended.

    Args:
        ends: Counts.
        kind: What is asked.
        ask: Returns scores, or raises.
        expected: The scores that may come; if None, none may.
        named: One of these has to be in the refusal.
    """
    errors = import_module("client.errors")
    try:
        scores = ask()
    except errors.RankClientError as error:
        said = str(error)
        wrong = ""
        if isinstance(error, errors.DeadlineExceeded) and "no scores within" not in named:
            wrong = f"hung: {said}"
        elif expected is not None and not named:
            wrong = f"was refused: {type(error).__name__}: {said[:300]}"
        elif "\n" in said or not said or len(said) > _LONGEST_MESSAGE:
            wrong = f"is no line: {said[:300]!r} ({len(said)} characters)"
        elif named and not any(each in said for each in named):
            wrong = f"names none of {list(named)}: {said[:300]}"
        ends.add(kind, type(error).__name__, wrong)
    except Exception as error:  # noqa: BLE001 - which is what is looked for
        ends.add(kind, type(error).__name__, f"raised {type(error).__name__}: {error}"[:400])
    else:
        right = expected is not None and not named and _equal(scores, expected)
        ends.add(kind, "scores", "" if right else f"got scores {np.asarray(scores)[:3]}")


def ask_spoilt_requests(
    client: Any,
    good: Sequence[RankingRequest],
    expected: Sequence[Any],
    seeds: Sequence[int],
    ends: Ends,
) -> None:
    """Ask a real server spoilt requests. ``expected`` has the scores of each good one."""
    signature = client.signature

    def ask(seed: int) -> None:
        place = seed % len(good)
        asked = spoil(good[place], signature, seed)
        scores = expected[place]
        if isinstance(asked.request, RankingRequest) and not asked.named:
            scores = np.tile(scores, asked.request.candidates // len(scores))
        options = {"timeout_s": PATIENCE_S} | (asked.options or {})
        attempt(
            ends,
            asked.kind,
            lambda: client.rank(asked.request, **options),
            expected=None if asked.named else scores,
            named=asked.named,
        )

    _on_threads(ask, seeds)


def send_spoilt_bytes(
    client: Any, good: Sequence[RankingRequest], seeds: Sequence[int], ends: Ends
) -> None:
    """Send a real server requests of which bytes were changed after they were packed.

    What still is a request may be answered: then scores are those of another request, and only
    that there are as many as are said counts here.
    """
    served = client._described()  # noqa: SLF001 - below what lets only good requests pass
    fleet = client._fleet  # noqa: SLF001

    def ask(seed: int) -> None:
        (question,) = served.split(good[seed % len(good)])
        body = spoil_bytes(question.body(PATIENCE_S), seed)
        try:
            response = fleet.ask_alone(_Spoilt(body), PATIENCE_S)
        except Exception as error:  # noqa: BLE001 - looked at below
            failure = error
            attempt(ends, "no request", lambda: _raise(failure))
        else:
            ends.add("still a request", "answer" if response.outputs else "no output")

    _on_threads(ask, seeds)


class _Spoilt:
    """A question of bytes."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def body(self, _timeout_s: float, _share: Any = None) -> bytes:
        """Return the bytes."""
        return self._body

    def read(self, response: bytes) -> Any:
        """Return the answer as a message."""
        return import_module("client.completions").Ended(response).inferred()


def hear_spoilt_answers(clients: Sequence[Any], seeds: Sequence[int], ends: Ends) -> None:
    """Ask the hostile server, by each client in turn; it answers what the seed says."""

    def ask(seed: int) -> None:
        candidates = seed % 37 + 1
        said = answer(seed, candidates)
        scores = scores_in(said.body, candidates)
        attempt(
            ends,
            said.kind,
            lambda: clients[seed % len(clients)].rank(seeded(seed, candidates)),
            expected=scores,
            named=() if scores is not None else _names(said, MODEL),
        )

    _on_threads(ask, seeds)


def read_spoilt_descriptions(url: str, seeds: Sequence[int], ends: Ends) -> None:
    """Make a client of a model that the hostile server describes as the seed says, and ask it."""
    kind = import_module("client").RankerClient
    right = next(seed for seed in count() if answer(seed, 1).kind == "right")

    def ask(seed: int) -> None:
        name = f"{MODEL}-{seed}"
        said = config(seed, name)
        client = kind(url, name, timeout_s=PATIENCE_S)
        try:
            true = describes(said.body, name)
            attempt(
                ends,
                said.kind,
                lambda: client.rank(seeded(right, 1)),
                expected=right_scores(right, 1) if true else None,
                named=() if true else _names(said, url, name),
            )
        finally:
            client.close()

    _on_threads(ask, seeds)


def meet_no_server(url: str, seeds: Sequence[int], ends: Ends) -> None:
    """Make clients of what is no gRPC server, one after the other, and ask each once."""
    kind = import_module("client").RankerClient
    for seed in seeds:
        with kind(url, MODEL, timeout_s=PATIENCE_S) as client:
            ask = partial(client.rank, seeded(seed, 1))
            attempt(ends, "no server", ask, named=(url,))


def seeded(seed: int, candidates: int) -> RankingRequest:
    """Return a request that carries a seed to the hostile server."""
    return RankingRequest(
        {"seed": np.array([seed])}, {"x": np.arange(candidates, dtype=np.float32)}
    )


def scores_in(body: bytes, candidates: int) -> Array | None:
    """Return the scores in an answer, float32 ``[N]``; None if it is none.

    By protobuf itself, and looking at everything.
    """
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    try:
        message = service_pb2.ModelInferResponse.FromString(body)
    except DecodeError:
        return None
    places = [place for place, each in enumerate(message.outputs) if each.name == SCORE]
    if len(places) != 1 or len(message.raw_output_contents) <= places[0]:
        return None
    output = message.outputs[places[0]]
    raw = message.raw_output_contents[places[0]]
    sizes = [float(each) for each in output.shape]
    fits = output.datatype == "FP32" and all(each > 0 for each in sizes)
    if not fits or np.prod(sizes) != candidates or len(raw) != 4 * candidates:
        return None
    scores = np.frombuffer(raw, np.float32)
    return scores if np.isfinite(scores).all() else None


def describes(body: bytes, name: str) -> bool:
    """Tell whether a description of the hostile model is true: what it says is what is read."""
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    try:
        said = service_pb2.ModelConfigResponse.FromString(body).config
        signature = json.loads(said.parameters["signature"].string_value)
        most = said.parameters["max_candidates"].string_value
        features = Signature.from_json(signature).features
        return said.name == name and features == SIGNATURE.features and int(most) > 0
    except (UserError, DecodeError, ValueError, LookupError, TypeError):
        return False
    except (AttributeError, RecursionError):
        return False


def _on_threads(ask: Callable[[int], None], seeds: Sequence[int]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(ask, seeds):
            pass


def _names(said: Answer, *names: str) -> tuple[str, ...]:
    """Return what a refusal may name; a server may say that it is late, or not there, itself."""
    own = ("no scores within", "no server answers at")
    return (*names, *own) if said.kind == "status" else names


def _raise(error: Exception) -> None:
    raise error


def _equal(scores: Any, expected: Any) -> bool:
    return scores.shape == expected.shape and bool(np.allclose(scores, expected, rtol=0, atol=1e-5))
