"""A WordPiece vocabulary out of texts, as BERT reads: lower case, words cut into known pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# BERT's, in an order of which [PAD] is 0.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENS = 8192
_INNER = "##"  # marks a piece that does not begin a word


def train_wordpiece(texts: Callable[[], Iterable[str]], tokens: int = TOKENS) -> bytes:
    """Learn a vocabulary (Wu et al., Google's Neural Machine Translation, 2016).

    Texts are streamed, twice: what is held is the distinct words and how often they came. The same
    texts give the same vocabulary.

    Args:
        texts: Returns the texts to learn from, the same each time.
        tokens: How many tokens there are at most, `SPECIAL` among them; single characters come
            first and are never left out.

    Returns:
        What a ``tokenizer.json`` holds. `transformers` reads it as well.

    Raises:
        UserError: `tokenizers` is not installed.
    """
    # The trainer numbers characters in the order of a hash map, and its numbers break ties. So it
    # is asked for the characters alone first, and then given them in the alphabet's order.
    characters = _train(texts(), 0, SPECIAL)
    inner = sorted(each for each in characters if each.startswith(_INNER) and len(each) == 3)
    words = sorted(set(_train(texts(), tokens, [*SPECIAL, *inner])) - set(SPECIAL))
    return wordpiece([*SPECIAL, *words])


def wordpiece(vocabulary: Sequence[str]) -> bytes:
    """Return the ``tokenizer.json`` of a vocabulary, numbered in order, `SPECIAL` among it."""
    from tokenizers import decoders, processors

    tokenizer = _empty({token: place for place, token in enumerate(vocabulary)})
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(each, tokenizer.token_to_id(each)) for each in ("[CLS]", "[SEP]")],
    )
    text: str = tokenizer.to_str(pretty=True)
    return text.encode()


def _train(texts: Iterable[str], tokens: int, special: Sequence[str]) -> list[str]:
    tokenizer = _empty({})
    from tokenizers.trainers import WordPieceTrainer

    trainer = WordPieceTrainer(vocab_size=tokens, special_tokens=list(special), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return list(tokenizer.get_vocab())


def _empty(vocabulary: dict[str, int]) -> Any:
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    except ImportError as error:
        raise UserError(
            "texts need the package 'tokenizers': pip install 'rankserve[text]'"
        ) from error
    model = models.WordPiece(vocabulary, unk_token="[UNK]")  # noqa: S106 - no password
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
