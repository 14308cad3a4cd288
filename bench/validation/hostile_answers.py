"""What a server should never answer: right answers, spoilt by a seed in one of many ways.

The seed travels in the request, so that both sides of a connection know what was answered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from rankers.features import Feature, Signature
from rankers.wire import SCORE

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "hostile"
MOST = 500
SIGNATURE = Signature((Feature("seed", "int64", (), "user"), Feature("x", "float32", (), "item")))
_WORDS = (
    *("", "unknown model", "model is not ready", "Exceeds maximum queue size", "not found"),
    *("Request timeout expired", "[request id: 1] no", "[request id:", "a\nb\r\n\tc", "\x00\x1f"),
    *("é漢字🤖", "{}%s%n", "x" * 6000, "x" * 20_000),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call is answered with: a body, or a status in its place."""

    kind: str
    body: bytes = b""
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""


def right_scores(seed: int, candidates: int) -> Any:
    """Return what the model of this seed thinks of its candidates, float32 ``[N]``."""
    return np.random.default_rng(seed).random(candidates, np.float32)


def answer(seed: int, candidates: int) -> Answer:
    """Return what the request of this seed is answered with: rightly in one of ten times."""
    random = Random(seed)
    message = service_pb2.ModelInferResponse(model_name=MODEL, model_version="1")
    message.outputs.add(name=SCORE, datatype="FP32", shape=[1, candidates])
    message.raw_output_contents.append(right_scores(seed, candidates).tobytes())
    return _spoilt(random, message, _SPOIL | _SPOIL_BYTES)


def config(seed: int, name: str) -> Answer:
    """Return what the question of this seed for the config of a model is answered with."""
    random = Random(seed)
    message = service_pb2.ModelConfigResponse()
    message.config.name = name
    parameters = message.config.parameters
    parameters["signature"].string_value = json.dumps(SIGNATURE.to_json())
    parameters["max_candidates"].string_value = str(MOST)
    return _spoilt(random, message, _SPOIL_CONFIG | _SPOIL_BYTES)


def _spoilt(random: Random, message: Any, ways: dict[str, Callable[[Random, Any], Any]]) -> Answer:
    if random.random() < 0.1:
        return Answer("right", message.SerializeToString())
    if random.random() < 0.1:
        code = random.choice([each for each in grpc.StatusCode if each is not grpc.StatusCode.OK])
        return Answer("status", code=code, details=random.choice(_WORDS))
    kind = random.choice(sorted(ways))
    changed = ways[kind](random, message)
    return Answer(kind, changed if isinstance(changed, bytes) else message.SerializeToString())


def _name(random: Random, message: Any) -> None:
    message.outputs[0].name = random.choice(["scores", "", "SCORE", "x" * 5000, "漢"])


def _datatype(random: Random, message: Any) -> None:
    message.outputs[0].datatype = random.choice(["INT32", "FP16", "FP64", "BYTES", "", "fp32"])


def _shape(random: Random, message: Any) -> None:
    count = message.outputs[0].shape[1]
    choices: tuple[list[int], ...] = (
        [],
        [count + 1],
        [1, -count],
        [0],
        [2**62, 2],
        [1, count, 2],
        [-1, -count],
    )
    message.outputs[0].ClearField("shape")
    message.outputs[0].shape.extend(random.choice(choices))


def _no_outputs(_random: Random, message: Any) -> None:
    message.ClearField("outputs")


def _no_contents(_random: Random, message: Any) -> None:
    message.ClearField("raw_output_contents")


def _typed_contents(_random: Random, message: Any) -> None:
    scores = np.frombuffer(message.raw_output_contents[0], np.float32)
    message.outputs[0].contents.fp32_contents.extend(scores.tolist())
    message.ClearField("raw_output_contents")


def _another_output(random: Random, message: Any) -> None:
    """Put an output before the score or after it; a client takes the score by its name."""
    other = service_pb2.ModelInferResponse.InferOutputTensor(
        name="other", datatype="INT64", shape=[1]
    )
    outputs, contents = list(message.outputs), list(message.raw_output_contents)
    place = random.randrange(2)
    outputs.insert(place, other)
    contents.insert(place, random.randbytes(8))
    message.ClearField("outputs")
    message.outputs.extend(outputs)
    message.ClearField("raw_output_contents")
    message.raw_output_contents.extend(contents)


def _twice(_random: Random, message: Any) -> None:
    message.outputs.append(message.outputs[0])
    message.raw_output_contents.append(message.raw_output_contents[0])


def _length(random: Random, message: Any) -> None:
    raw = message.raw_output_contents[0]
    message.raw_output_contents[0] = random.choice(
        [b"", raw[:-1], raw[: len(raw) // 2], raw + b"\0", raw * 2, raw + bytes(1 << 20)]
    )


def _value(random: Random, message: Any) -> None:
    scores = np.frombuffer(message.raw_output_contents[0], np.float32).copy()
    scores[random.randrange(len(scores))] = random.choice([np.nan, np.inf, -np.inf])
    message.raw_output_contents[0] = scores.tobytes()


def _parameters(random: Random, message: Any) -> None:
    message.model_name = random.choice(["", "another", "x" * 100_000])
    message.id = "i" * random.randrange(5000)
    for place in range(random.randrange(50)):
        message.parameters[str(place)].string_param = "y" * 100


def _truncate(random: Random, message: Any) -> bytes:
    body: bytes = message.SerializeToString()
    return body[: random.randrange(len(body))]


def _noise(random: Random, _message: Any) -> bytes:
    return random.randbytes(random.choice([0, 1, 2, 17, 300, 5000]))


def _flip(random: Random, message: Any) -> bytes:
    body = bytearray(message.SerializeToString())
    for _ in range(random.randint(1, 4)):
        # Where names, types and lengths are, rather than among the scores.
        body[random.randrange(min(60, len(body)))] ^= 1 << random.randrange(8)
    return bytes(body)


def _insert(random: Random, message: Any) -> bytes:
    body = message.SerializeToString()
    place = random.randrange(len(body))
    return bytes(body[:place] + random.randbytes(random.randint(1, 9)) + body[place:])


def _huge_length(random: Random, message: Any) -> bytes:
    """Say that a field goes on for gigabytes, or for ever."""
    lengths = (
        b"\xff\xff\xff\xff\x07",
        b"\xff\xff\xff\xff\x0f",
        b"\xff" * 9 + b"\x01",
        b"\xff" * 12,
    )
    tag = bytes([random.choice([1, 3, 4, 5, 6]) << 3 | 2])
    return bytes(message.SerializeToString() + tag + random.choice(lengths))


def _deep(_random: Random, message: Any) -> bytes:
    """Nest groups of unknown fields deeper than a parser may follow."""
    return bytes(message.SerializeToString() + b"\xf3\x01" * 20_000)


def _signature(random: Random, message: Any) -> None:
    said = SIGNATURE.to_json()
    each = random.choice(said["features"])
    key, value = random.choice(
        [
            ("name", random.choice([5, "", "a b", None, "seed"])),
            ("dtype", random.choice(["int63", None, "object", ["float32"]])),
            ("side", random.choice(["user", "both", 0])),
            ("shape", random.choice([[-1], [0], "x", None, [2**62, 2**62], [1.5], [[1]], ["1"]])),
            ("cardinality", random.choice([0, -1, 1.5, "7", [], 10**30])),
            ("padding", random.choice([-1, "x", 5])),
        ]
    )
    each[key] = value
    message.config.parameters["signature"].string_value = json.dumps(said)


def _no_signature(random: Random, message: Any) -> None:
    message.config.parameters["signature"].string_value = random.choice(
        [
            *("", "null", "[]", "{}", "7", "{", '"' * 9, "NaN", '{"features": 1}'),
            *('{"features": [], "score": "logit"}', '{"score": {}, "features": []}'),
            *("[" * 100_000, '{"features":' * 5000),
        ]
    )


def _most(random: Random, message: Any) -> None:
    message.config.parameters["max_candidates"].string_value = random.choice(
        ["", "0", "-1", "1e3", "9" * 5000, " 7", "\u0667", "0x10", "None"]
    )


def _no_parameters(random: Random, message: Any) -> None:
    message.config.parameters.pop(random.choice(["signature", "max_candidates"]))


def _no_config(_random: Random, message: Any) -> None:
    message.ClearField("config")


_SPOIL: dict[str, Callable[[Random, Any], Any]] = {
    "name": _name,
    "datatype": _datatype,
    "shape": _shape,
    "no outputs": _no_outputs,
    "no contents": _no_contents,
    "typed contents": _typed_contents,
    "another output": _another_output,
    "twice": _twice,
    "length": _length,
    "value": _value,
    "parameters": _parameters,
}
_SPOIL_BYTES: dict[str, Callable[[Random, Any], Any]] = {
    "truncated": _truncate,
    "noise": _noise,
    "flipped": _flip,
    "inserted": _insert,
    "huge length": _huge_length,
    "deep": _deep,
}
_SPOIL_CONFIG: dict[str, Callable[[Random, Any], Any]] = {
    "signature": _signature,
    "no signature": _no_signature,
    "max_candidates": _most,
    "no parameters": _no_parameters,
    "no config": _no_config,
}
