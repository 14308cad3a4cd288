"""The files that README.md and docs/adapters.md show: trained modules of others, to the server."""

import contextlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import published_rankers
import pytest
import torch
from click.testing import CliRunner
from in_process import children_in_this_process
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from client import RankerClient
from optimize.artifact import open_artifact, seal_with_verdicts
from optimize.build import run_stage
from optimize.capture import capture
from optimize.cli import main
from optimize.gates import judge
from optimize.recipe import load_recipe
from optimize.stages import stage_options
from optimize.triton.repository import deploy
from rankers.features import Feature
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
# Requests that gates look at: few, so that hardly a pair of scores lies so close together that
# rounding changes its order, which is more than the gates allow.
JUDGED = 12
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
    log = published_rankers.draw_requests(features, 30, seed=1)
    model.compile(torch.optim.Adam(model.parameters(), lr=0.01), "binary_crossentropy")
    model.fit(log.flat(), log.labels, batch_size=64, epochs=10, verbose=0)
    torch.save(model.state_dict(), shop / "deepfm.pt")
    save_requests(published_rankers.draw_requests(features, JUDGED), shop / "held_out.safetensors")
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
    for _ in range(60):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(
            model(**encoded).logits.squeeze(1), target
        ).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        scores = model(**encoded).logits.squeeze(1)
    assert roc_auc_score(labels, scores) > 0.65
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
    save_requests(batch.slice(0, JUDGED), shop / "texts.safetensors")
    return "my_cross_encoder.py"


@pytest.fixture(scope="module")
def dlrm(shop):
    """Train the DLRM that docs/adapters.md shows."""
    try:
        from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
        from torchrec.models.dlrm import DLRM
    except (ImportError, OSError) as error:
        pytest.skip(f"torchrec cannot be imported with torch {torch.__version__}: {error}")
    from rankers.adapters import Call, KeyedJagged

    features = (
        Feature("dense", "float32", (4,), side="user"),
        Feature("item_id", "int64", cardinality=5000),
        Feature("tags", "int64", (3,), cardinality=500, padding=0),
    )
    tables = [
        EmbeddingBagConfig(
            name=f"t_{each.name}",
            num_embeddings=each.cardinality,
            embedding_dim=8,
            feature_names=[each.name],
        )
        for each in features[1:]
    ]
    torch.manual_seed(0)
    model = DLRM(EmbeddingBagCollection(tables=tables), 4, [16, 8], [16, 1])
    published_rankers.train(
        Call(model, "dense", KeyedJagged(features[1:])),
        published_rankers.draw_requests(features, 30, seed=1),
        lambda scores, labels: functional.binary_cross_entropy_with_logits(
            scores.squeeze(1), labels
        ),
        steps=20,
    )
    torch.save(model.state_dict(), shop / "dlrm.pt")
    save_requests(published_rankers.draw_requests(features, JUDGED), shop / "log.safetensors")
    return "my_dlrm.py"


def run_command(shop, file):
    """Take a file's ranker through the recipe by the command that a person types."""
    arguments = ["run", f"{file}:ranker", "--out", str(shop / f"{file}-run"), "--json"]
    with children_in_this_process():
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["passed"]
    return open_artifact(shop / f"{file}-run" / run["chosen"])


def run_here(shop, ranker):
    """Take a ranker through the recipe's steps in this process, which is quicker."""
    recipe = load_recipe("cpu-fp32")
    store = shop / "store"
    captured = capture(ranker, store, candidates=recipe.parity.candidates)
    made = captured
    for use in recipe.stages:
        made = run_stage(use.name, stage_options(use.stage), made, store)
    for artifact in (captured, made):
        verdicts = judge(artifact, captured, recipe.parity, recipe.quality)
        assert all(each.passed for each in verdicts), [each.reason for each in verdicts]
    folder = shop / f"{ranker.name}-judged"
    folder.mkdir()
    return seal_with_verdicts(made, verdicts, folder)


@pytest.fixture(scope="module")
def rankers(shop):
    return {}


@pytest.fixture(scope="module")
def artifacts(shop, rankers, request):
    """Return each package's ranker, taken through the recipe; the first by the command."""
    made = {}
    with contextlib.chdir(shop):
        file = request.getfixturevalue("deepfm")
        rankers["deepfm"] = load_ranker(f"{file}:ranker")
        made["deepfm"] = run_command(shop, file)
        for name in ("cross_encoder", "dlrm"):
            try:
                file = request.getfixturevalue(name)
            except pytest.skip.Exception as skipped:
                made[name] = str(skipped)
                continue
            rankers[name] = load_ranker(f"{file}:ranker")
            made[name] = run_here(shop, rankers[name])
    return made


@pytest.fixture(scope="module")
def server(artifacts, start_server, tmp_path_factory):
    repository = tmp_path_factory.mktemp("shop-served") / "models"
    for name, artifact in artifacts.items():
        if not isinstance(artifact, str):
            deploy(artifact, repository, name)
    with start_server(repository) as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["deepfm", "cross_encoder", "dlrm"])
def test_a_shown_file_is_served_with_the_scores_of_its_module(rankers, artifacts, server, name):
    if isinstance(artifacts[name], str):
        pytest.skip(artifacts[name])
    ranker = rankers[name]
    assert artifacts[name].manifest.format == "onnx"
    graph = onnx.load(artifacts[name].model_path).graph
    assert not {"Loop", "If", "Scan", "NonZero"} & {node.op_type for node in graph.node}
    with RankerClient(server.grpc_url, name, timeout_s=20.0) as client:
        for request in list(ranker.evaluation)[:10]:
            expected = ranker.score(request.flat())
            np.testing.assert_allclose(client.rank(request), expected, rtol=0, atol=2e-6)
    # It has learned, and scores lie far further apart than what was allowed.
    scores = ranker.score(ranker.evaluation.flat())
    assert roc_auc_score(ranker.evaluation.labels, scores) > 0.6
    assert scores.std() > 0.05
