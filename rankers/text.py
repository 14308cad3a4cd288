"""Texts to token IDs, by a ``tokenizer.json``: the same in training, evaluation and serving.

Needs ``tokenizers`` and neither torch nor ``transformers``, so a client can do it::

    encoder = TextEncoder("build/cross_encoder", client.signature)
    client.rank(encoder.request({"query": "red shoes"}, {"document": passages}))
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from rankers.bags import pad_bags
from rankers.errors import UserError, nearest
from rankers.requests import RankingRequest, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Feature, Signature
    from rankers.requests import Array, Columns

TOKENIZER = "tokenizer.json"
TooLong = Literal["truncate", "refuse"]
# Where a folder may have it: a checkpoint, an artifact or a deployed version; a tokenizer's own.
_PLACES = (Path("files") / TOKENIZER, Path(TOKENIZER))
_DESCRIPTIONS = ("ranker.json", "manifest.json")
_PADDINGS = ("[PAD]", "<pad>")
_BATCH = 4096


class TextEncoder:
    """Turns the texts of a request into the token IDs that a ranker reads.

    A text becomes its tokens without special ones, which the ranker adds, filled up with the
    feature's padding. What looks like a special token in a text (``[SEP]``) is read as text. An
    empty text is a row of padding.

    Args:
        tokenizer: A ``tokenizer.json``, or a folder with one: a checkpoint or an artifact (its
            checksum is compared), or what ``save_pretrained`` of a `transformers` tokenizer wrote;
            or what a ``tokenizer.json`` holds, as bytes.
        signature: The ranker's. A feature that gets texts has shape ``(L,)`` and a padding.
        too_long: What is done with a text of more than L tokens: ``truncate`` keeps the first L, as
            training does, and counts it in `truncated`; ``refuse`` raises.

    Attributes:
        truncated: How many texts were cut so far, by feature.

    Raises:
        UserError: There is no such tokenizer, it is damaged, or `tokenizers` is not installed.
    """

    def __init__(
        self,
        tokenizer: str | Path | bytes,
        signature: Signature,
        *,
        too_long: TooLong = "truncate",
    ) -> None:
        if too_long not in get_args(TooLong):
            raise UserError(f"too_long is {too_long!r}; {nearest(too_long, get_args(TooLong))}")
        content = tokenizer if isinstance(tokenizer, bytes) else read_tokenizer(Path(tokenizer))
        self.signature, self.too_long = signature, too_long
        self.truncated: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._tokenizer = load_tokenizer(content)

    @property
    def tokens(self) -> int:
        """How many token IDs there are."""
        count: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return count

    def request(
        self,
        user: Mapping[str, Any],
        items: Mapping[str, Any],
        labels: Array | None = None,
    ) -> RankingRequest:
        """Return a request.

        Args:
            user: By feature, a text or a column ``[1, …]``, such as token IDs.
            items: By feature, N texts or a column ``[N, …]``.
            labels: float32 ``[N]``, or None.

        Raises:
            UserError: See `encode`.
        """
        return RankingRequest(self._columns(user), self._columns(items), labels)

    def encode(self, name: str, texts: Sequence[str]) -> Array:
        """Return the token IDs of texts for a feature, of its dtype, ``[texts, L]``.

        Raises:
            UserError: The feature takes no texts or not this tokenizer's, something is no text, or
                a text is too long and that is refused.
        """
        feature = self.signature.feature(name)
        self._check(feature)
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise RequestError(f"feature {name!r} row {row} is {text!r}; expected a text (str)")
        bags: list[list[int]] = []
        for start in range(0, len(texts), _BATCH):
            piece = list(texts[start : start + _BATCH])
            found = self._tokenizer.encode_batch_fast(piece, add_special_tokens=False)
            bags += [each.ids for each in found]
        self._measure(feature, bags)
        return pad_bags(bags, feature, keep="first")

    def _columns(self, values: Mapping[str, Any]) -> Columns:
        columns: Columns = {}
        for name, value in values.items():
            if isinstance(value, np.ndarray) and value.dtype.kind not in "OUT":
                columns[name] = value
            else:
                columns[name] = self.encode(name, [value] if isinstance(value, str) else value)
        return columns

    def _check(self, feature: Feature) -> None:
        if feature.padding is None:
            raise UserError(
                f"feature {feature.name!r} takes no texts: it has shape {feature.shape} and no "
                "padding"
            )
        if feature.cardinality is not None and self.tokens > feature.cardinality:
            raise UserError(
                f"the tokenizer has {self.tokens} tokens, but feature {feature.name!r} has "
                f"{feature.cardinality} IDs: give the tokenizer that the ranker was trained with"
            )
        for token in _PADDINGS:
            padding = self._tokenizer.token_to_id(token)
            if padding is not None and padding != feature.padding:
                raise UserError(
                    f"the tokenizer's {token} is {padding}, but feature {feature.name!r} has "
                    f"padding {feature.padding}: give the tokenizer that the ranker was trained "
                    "with"
                )

    def _measure(self, feature: Feature, bags: Sequence[Sequence[int]]) -> None:
        over = [row for row, bag in enumerate(bags) if len(bag) > feature.width]
        if not over:
            return
        if self.too_long == "refuse":
            raise RequestError(
                f"feature {feature.name!r} row {over[0]} has {len(bags[over[0]])} tokens; at most "
                f"{feature.width} are read: shorten the text, or truncate it (too_long='truncate')"
            )
        with self._counting:
            self.truncated[feature.name] += len(over)


def read_tokenizer(path: Path) -> bytes:
    """Return what a ``tokenizer.json`` holds.

    Args:
        path: The file, or a folder that has one. Where the folder is a checkpoint or an artifact,
            the checksum in its description is compared.

    Raises:
        UserError: There is none, or it was changed.
    """
    file = path
    if path.is_dir():
        files = [path / each for each in _PLACES if (path / each).is_file()]
        if not files:
            raise UserError(f"{path}: holds no {TOKENIZER}")
        file = files[0]
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    if path.is_dir():
        stated = _stated(path, file.relative_to(path).as_posix())
        if stated not in {None, hashlib.sha256(content).hexdigest()}:
            raise UserError(
                f"{file}: its SHA-256 is not the one stated beside it: the file was changed or "
                "damaged; make it again"
            )
    return content


def load_tokenizer(content: bytes) -> Any:
    """Make a `tokenizers.Tokenizer` that reads special tokens in a text as text.

    Raises:
        UserError: It is no tokenizer, or `tokenizers` is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UserError(
            "texts need the package 'tokenizers': pip install 'rankserve[text]', or send token IDs"
        ) from error
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare exceptions
        raise UserError(f"{TOKENIZER} is no tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def say_truncated(path: Path, truncated: Mapping[str, int], texts: Mapping[str, int]) -> None:
    """Say on standard error how many texts were longer than their feature."""
    for name, count in truncated.items():
        print(  # noqa: T201 - said once, where progress is said
            f"{path}: feature {name!r}: {count:,} of {texts[name]:,} texts are longer than it and "
            "were truncated",
            file=sys.stderr,
        )


def _stated(folder: Path, name: str) -> str | None:
    """Return the SHA-256 that a folder's description states for a file; None if it has none."""
    for each in _DESCRIPTIONS:
        try:
            files = json.loads((folder / each).read_bytes())["files"]
            return None if name not in files else str(files[name])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
