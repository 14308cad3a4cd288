from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import helper
from tiny_ranker import SIGNATURE, make_artifact

from optimize.artifact import open_artifact, seal
from optimize.triton.config import CONFIG, ServingOptions, read_config
from optimize.triton.deploy_checks import check_artifact
from optimize.triton.repository import deploy, deployed_models, versions
from optimize.verdicts import Verdict
from rankers.errors import UserError
from rankers.features import Feature, Signature


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "models"


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    return [make_artifact(folder / str(seed), seed=seed) for seed in range(6)]


def key(artifact):
    return artifact.manifest.to_json()["sha256"]


def test_the_first_version_holds_model_manifest_and_backend(artifacts, repository):
    deployed = deploy(artifacts[0], repository, "tiny")
    assert (deployed.name, deployed.version) == ("tiny", 1)
    assert {each.name for each in deployed.folder.iterdir()} == {
        "model.py",
        "manifest.json",
        "model.onnx",
    }
    assert open_artifact(deployed.folder).manifest == artifacts[0].manifest
    assert deployed_models(repository) == ["tiny"]


def test_nothing_but_models_is_ever_left_in_the_repository(artifacts, repository):
    for each in artifacts[:3]:
        deploy(each, repository, "tiny")
    assert [each.name for each in repository.iterdir()] == ["tiny"]


def test_a_graph_in_bf16_is_not_put_before_a_cpu(artifacts, repository):
    half = replace(artifacts[0].manifest, settings={"half": "bf16"})
    with pytest.raises(UserError, match="runs on the CPU: use backend onnxruntime"):
        deploy(replace(artifacts[0], manifest=half), repository, "tiny")
    assert not repository.exists() or not list(repository.iterdir())


def test_a_graph_in_bf16_may_be_put_before_a_gpu(artifacts):
    settings = {"half": "bf16", "onnx_buckets": {"sizes": [8], "provider": "cuda"}}
    half = replace(artifacts[0].manifest, settings=settings)
    options = ServingOptions(accelerator="cuda")
    check_artifact(replace(artifacts[0], manifest=half), options, ungated=True)


def test_another_artifact_becomes_the_next_version(artifacts, repository):
    deploy(artifacts[0], repository, "tiny")
    deployed = deploy(artifacts[1], repository, "tiny")
    assert deployed.version == 2
    assert key(open_artifact(deployed.folder)) == key(artifacts[1])


def test_the_same_artifact_keeps_its_version_and_its_config_file(artifacts, repository):
    deploy(artifacts[0], repository, "tiny")
    before = (repository / "tiny" / CONFIG).stat()
    assert deploy(artifacts[0], repository, "tiny").version == 1
    assert (repository / "tiny" / CONFIG).stat() == before


def test_a_damaged_version_is_replaced_by_the_same_artifact(artifacts, repository):
    folder = deploy(artifacts[0], repository, "tiny").folder
    (folder / "model.onnx").write_bytes(b"damaged")
    assert deploy(artifacts[0], repository, "tiny").version == 2


def test_new_options_change_the_config_and_not_the_version(artifacts, repository):
    deploy(artifacts[0], repository, "tiny")
    options = ServingOptions(instances=7)
    assert deploy(artifacts[0], repository, "tiny", options=options).version == 1
    assert read_deployed(repository).instance_group[0].count == 7


def test_the_last_versions_are_kept_and_named_in_the_config(artifacts, repository):
    for each in artifacts:
        deploy(each, repository, "tiny", options=ServingOptions(keep_versions=2))
    assert versions(repository / "tiny") == [5, 6]
    stated = {
        name: value.string_value
        for name, value in read_deployed(repository).parameters.items()
        if name.startswith("artifact.")
    }
    assert stated == {"artifact.5": key(artifacts[4]), "artifact.6": key(artifacts[5])}


def read_deployed(repository):
    path = repository / "tiny" / CONFIG
    return read_config(path.read_text(), path)


class TestRefusals:
    @pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "x" * 129, "ä"])
    def test_a_name_that_is_no_folder_name(self, artifacts, repository, name):
        with pytest.raises(UserError, match="no name for a model"):
            deploy(artifacts[0], repository, name)
        assert not repository.exists()

    def test_other_features_under_a_deployed_name(self, artifacts, repository, tmp_path):
        deploy(artifacts[0], repository, "tiny")
        features = list(SIGNATURE.features)
        features[3] = replace(features[3], dtype="float64")
        other = make_artifact(tmp_path / "other", signature=Signature(tuple(features)))
        with pytest.raises(UserError, match=r"other features.*'context' was .*another name"):
            deploy(other, repository, "tiny")
        assert versions(repository / "tiny") == [1]

    def test_a_new_feature_under_a_deployed_name(self, artifacts, repository, tmp_path):
        deploy(artifacts[0], repository, "tiny")
        more = Signature((*SIGNATURE.features, Feature("extra", "float32")))
        with pytest.raises(UserError, match="'extra' is new"):
            deploy(make_artifact(tmp_path / "more", signature=more), repository, "tiny")

    def test_not_a_table_that_has_grown(self, artifacts, repository, tmp_path):
        deploy(artifacts[0], repository, "tiny")
        features = list(SIGNATURE.features)
        features[1] = replace(features[1], cardinality=60)
        grown = make_artifact(tmp_path / "grown", signature=Signature(tuple(features)))
        assert deploy(grown, repository, "tiny").version == 2

    def test_an_artifact_that_a_gate_stopped(self, repository, tmp_path):
        artifact = make_artifact(tmp_path / "stopped")
        verdict = Verdict("parity", False, "scores differ by 0.1; the limit is 1e-05", {})
        stopped = seal(artifact.folder, replace(artifact.manifest, verdicts=(verdict,)))
        with pytest.raises(UserError, match="'parity' stopped this artifact: scores differ"):
            deploy(stopped, repository, "tiny")

    def test_an_artifact_of_another_format(self, repository, tmp_path):
        artifact = make_artifact(tmp_path / "other")
        other = seal(artifact.folder, replace(artifact.manifest, format="made_up"))
        with pytest.raises(UserError, match="made_up artifact cannot be deployed"):
            deploy(other, repository, "tiny")
        other = seal(artifact.folder, replace(artifact.manifest, format="torch"))
        with pytest.raises(UserError, match=r"torch artifact cannot be .* 'onnxruntime'"):
            deploy(other, repository, "tiny", options=ServingOptions(backend="onnxruntime"))

    def test_a_model_that_somebody_else_put_there(self, artifacts, repository):
        (repository / "tiny").mkdir(parents=True)
        with pytest.raises(UserError, match=r"has no config\.pbtxt"):
            deploy(artifacts[0], repository, "tiny")
        (repository / "tiny" / CONFIG).write_text('name: "tiny"\nbackend: "python"\n')
        with pytest.raises(UserError, match="not written by rankserve"):
            deploy(artifacts[0], repository, "tiny")

    def test_an_artifact_that_changed_since_it_was_opened(self, repository, tmp_path):
        artifact = make_artifact(tmp_path / "changed")
        (artifact.folder / "model.onnx").write_bytes(b"changed")
        with pytest.raises(UserError, match=r"model\.onnx"):
            deploy(artifact, repository, "tiny")
        assert not (repository / "tiny").exists()


class TestTheOnnxruntimeBackend:
    options = ServingOptions(backend="onnxruntime", keep_versions=2)

    def test_a_version_holds_the_wire_form_and_a_manifest_that_says_so(self, artifacts, repository):
        folder = deploy(artifacts[0], repository, "tiny", options=self.options).folder
        assert {each.name for each in folder.iterdir()} == {"manifest.json", "model.onnx"}
        manifest = open_artifact(folder).manifest
        assert manifest.layout == "wire"
        assert manifest.lineage[-1].stage == "wire_graph"
        assert manifest.lineage[-1].source == artifacts[0].key
        assert manifest.signature == SIGNATURE

    def test_versions_are_told_apart_by_the_artifact_they_were_made_from(
        self, artifacts, repository
    ):
        for each, version in zip([0, 0, 1, 1, 2], [1, 1, 2, 2, 3], strict=True):
            deployed = deploy(artifacts[each], repository, "tiny", options=self.options)
            assert deployed.version == version
        parameters = read_deployed(repository).parameters
        assert parameters["artifact.2"].string_value == key(artifacts[1])
        assert parameters["artifact.3"].string_value == key(artifacts[2])
        assert "artifact.1" not in parameters

    def test_a_damaged_version_is_replaced(self, artifacts, repository):
        folder = deploy(artifacts[0], repository, "tiny", options=self.options).folder
        (folder / "model.onnx").write_bytes(b"damaged")
        assert deploy(artifacts[0], repository, "tiny", options=self.options).version == 2

    def test_a_model_keeps_its_backend(self, artifacts, repository):
        deploy(artifacts[0], repository, "tiny")
        before = read_deployed(repository)
        with pytest.raises(UserError, match=r"behind the backend 'python'.*another name"):
            deploy(artifacts[1], repository, "tiny", options=self.options)
        assert read_deployed(repository) == before
        assert versions(repository / "tiny") == [1]

    def test_a_wire_form_is_no_artifact_to_deploy_again(self, artifacts, repository):
        folder = deploy(artifacts[0], repository, "tiny", options=self.options).folder
        with pytest.raises(UserError, match="wire onnx artifact cannot be deployed"):
            deploy(open_artifact(folder), repository, "again")

    def test_a_graph_too_new_for_the_image_changes_nothing(self, artifacts, repository, tmp_path):
        deploy(artifacts[0], repository, "tiny", options=self.options)
        before = (repository / "tiny" / CONFIG).read_bytes()
        artifact = make_artifact(tmp_path / "new", seed=1)
        model = onnx.load(artifact.model_path)
        model.ir_version = 14
        onnx.save(model, artifact.model_path)
        with pytest.raises(UserError, match=r"IR version 14 .*ONNX Runtime .*of Triton"):
            deploy(
                seal(artifact.folder, artifact.manifest), repository, "tiny", options=self.options
            )
        assert (repository / "tiny" / CONFIG).read_bytes() == before
        assert versions(repository / "tiny") == [1]

    def test_a_graph_whose_wire_form_scores_otherwise_is_not_deployed(
        self, artifacts, repository, tmp_path
    ):
        deploy(artifacts[0], repository, "tiny", options=self.options)
        before = (repository / "tiny" / CONFIG).read_bytes()
        artifact = make_artifact(tmp_path / "random", seed=1)
        model = onnx.load(artifact.model_path)
        # A score that is drawn anew at every run.
        model.graph.node[-1].output[0] = "steady"
        model.graph.node.append(helper.make_node("RandomNormalLike", ["steady"], ["score"]))
        onnx.save(model, artifact.model_path)
        with pytest.raises(UserError, match=r"scores 1 candidates otherwise, by up to \d"):
            deploy(
                seal(artifact.folder, artifact.manifest), repository, "tiny", options=self.options
            )
        assert (repository / "tiny" / CONFIG).read_bytes() == before
        assert versions(repository / "tiny") == [1]


def _deploy(folder, repository):
    deploy(open_artifact(folder), repository, "tiny", options=ServingOptions(keep_versions=9))


def test_deploys_at_once_wait_for_each_other(artifacts, repository):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_deploy, args=(each.folder, repository)) for each in artifacts[:4]
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert [each.exitcode for each in workers] == [0] * 4
    assert versions(repository / "tiny") == [1, 2, 3, 4]
    held = {key(open_artifact(repository / "tiny" / str(number))) for number in range(1, 5)}
    assert held == {key(each) for each in artifacts[:4]}


# Says how long a deploy takes here once all is imported, so that kills fall into the next ones.
_DEPLOY_FOR_EVER = """
import sys, time
from itertools import cycle
from pathlib import Path
from optimize.artifact import open_artifact
from optimize.triton.repository import deploy
artifacts = [open_artifact(Path(each)) for each in sys.argv[2:]]
for count, each in enumerate(cycle(artifacts)):
    began = time.perf_counter()
    deploy(each, Path(sys.argv[1]), f"tiny{count % 7 // 3}")
    if count == 1:
        print(time.perf_counter() - began, flush=True)
"""


def test_a_kill_at_any_moment_leaves_whole_versions_and_the_next_deploy_completes(
    artifacts, repository
):
    moments = random.Random(0)
    command = [sys.executable, "-c", _DEPLOY_FOR_EVER, str(repository)]
    command += [str(each.folder) for each in artifacts]
    unfinished = 0
    for _ in range(25):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            takes_s = float(process.stdout.readline())
            time.sleep(moments.uniform(0.0, 3 * takes_s))
            process.send_signal(signal.SIGKILL)
        aside = repository.parent / ".models.deploying"
        unfinished += any(each.name != "lock" for each in aside.glob("*"))
        for name in deployed_models(repository):
            model = repository / name
            config = read_config((model / CONFIG).read_text(), model)
            for number in versions(model):
                held = open_artifact(model / str(number))
                assert config.parameters[f"artifact.{number}"].string_value == key(held)
    assert unfinished > 3, "the kills fell between deploys: choose other moments"

    for name in ("tiny0", "tiny1"):
        deployed = deploy(artifacts[0], repository, name)
        assert key(open_artifact(deployed.folder)) == key(artifacts[0])
    assert [each.name for each in aside.iterdir()] == ["lock"]
    left = {each.name for model in repository.iterdir() for each in Path(model).iterdir()}
    assert all(each == CONFIG or each.isdecimal() for each in left)
