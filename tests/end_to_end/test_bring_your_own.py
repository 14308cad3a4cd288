"""The files that README.md and docs/adapters.md show: trained modules of others, to the server."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import published_rankers
import pytest
import torch
from torch.nn import functional

from rankers.ranker import load_ranker
from rankers.requests import RequestBatch, save_requests

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]
SHOWN = {
    name: code
    for page in ("README.md", "docs/adapters.md")
    for name, code in re.findall(
        r"<!-- example: (\S+) -->\n```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL
    )
}
WORDS = ["cheap", "red", "shoe", "hat", "warm", "blue", "old", "new"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with the shown files in it, and nothing that they read yet."""
    folder = tmp_path_factory.mktemp("shop")
    for name, code in SHOWN.items():
        (folder / name).write_text(code)
    return folder


@pytest.fixture(scope="module")
def deepfm(shop):
    """Train the README's DeepFM with the package's own ``fit``."""
    from deepctr_torch.inputs import DenseFeat, SparseFeat
    from deepctr_torch.models import DeepFM

    from rankers.adapters import deepctr_features

    columns = [SparseFeat("user_id", 1000), SparseFeat("item_id", 5000), DenseFeat("price", 1)]
    model = DeepFM(columns, columns)
    features = deepctr_features(columns, user=["user_id"])
    log = published_rankers.draw_requests(features, seed=1)
    model.compile("adam", "binary_crossentropy")
    model.fit(log.flat(), log.labels, batch_size=64, epochs=2, verbose=0)
    torch.save(model.state_dict(), shop / "deepfm.pt")
    save_requests(published_rankers.draw_requests(features), shop / "held_out.safetensors")
    return "my_deepfm.py"


@pytest.fixture(scope="module")
def cross_encoder(shop):
    """Train a small BERT on pairs of texts, and save it as `transformers` does."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(known)})
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(known),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=80,
            num_labels=1,
        )
    )
    random = np.random.default_rng(0)
    counts = random.integers(1, 20, 30)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    queries = random.choice(WORDS, 30)
    documents = [" ".join(random.choice(WORDS, 3)) for _ in range(offsets[-1])]
    asked = np.repeat(queries, counts)
    labels = np.array([query in text.split() for query, text in zip(asked, documents, strict=True)])

    encoded = tokenizer(list(asked), documents, padding=True, return_tensors="pt")
    target = torch.from_numpy(labels.astype(np.float32))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(10):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(
            model(**encoded).logits.squeeze(1), target
        ).backward()
        optimizer.step()
    model.save_pretrained(shop / "cross-encoder")
    tokenizer.save_pretrained(shop / "cross-encoder")

    def tokens(texts, width):
        ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        return np.array([[*each, *[0] * (width - len(each))] for each in ids])

    batch = RequestBatch(
        {"query": tokens(queries, 16)},
        {"document": tokens(documents, 48)},
        offsets,
        labels.astype(np.float32),
    )
    save_requests(batch, shop / "texts.safetensors")
    return "my_cross_encoder.py"


@pytest.fixture(scope="module")
def dlrm(shop, monkeypatch_module):
    """Train the DLRM that docs/adapters.md shows, starting from its own weights."""
    pytest.importorskip("torchrec", exc_type=(ImportError, OSError))
    # The file loads weights and requests: those of a fresh model, then those of a trained one.
    code = SHOWN["my_dlrm.py"]
    return code


def optimize(shop, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "optimize", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=shop,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
