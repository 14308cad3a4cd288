"""Artifacts: sealed folders that are refused when anything in them changed."""

import json
from dataclasses import replace

import pytest
from example_rankers import SIGNATURE

from optimize.artifact import (
    MANIFEST,
    ArtifactError,
    Manifest,
    open_artifact,
    seal,
    seal_with_verdicts,
)
from optimize.verdicts import Verdict


@pytest.fixture
def artifact(tmp_path):
    folder = tmp_path / "artifact"
    (folder / "parts").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(range(256)))
    (folder / "parts" / "weights").write_bytes(b"weights")
    return seal(folder, Manifest("tiny", "onnx", "model.onnx", SIGNATURE))


class TestOpening:
    def test_what_was_sealed_is_opened_unchanged(self, artifact):
        assert open_artifact(artifact.folder) == artifact

    @pytest.mark.parametrize("name", ["model.onnx", "parts/weights"])
    def test_a_flipped_byte_is_refused_by_the_files_name(self, artifact, name):
        path = artifact.folder / name
        data = bytearray(path.read_bytes())
        data[3] ^= 1
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match=name):
            open_artifact(artifact.folder)

    def test_every_flipped_byte_of_the_manifest_is_refused(self, artifact):
        path = artifact.folder / MANIFEST
        original = path.read_bytes()
        for position in range(0, len(original), 7):
            if original[position : position + 1].isspace():
                continue  # white space between JSON values means nothing
            data = bytearray(original)
            data[position] ^= 1
            path.write_bytes(data)
            with pytest.raises(ArtifactError, match=MANIFEST):
                open_artifact(artifact.folder)

    def test_a_missing_file_is_named(self, artifact):
        (artifact.folder / "parts" / "weights").unlink()
        with pytest.raises(ArtifactError, match="parts/weights: missing"):
            open_artifact(artifact.folder)

    def test_a_newer_schema_asks_for_an_upgrade(self, artifact):
        from optimize.checksums import fingerprint

        path = artifact.folder / MANIFEST
        data = json.loads(path.read_bytes())
        del data["sha256"]
        data["schema"] = 99
        path.write_text(json.dumps(data | {"sha256": fingerprint(data)}))
        with pytest.raises(ArtifactError, match="schema 99"):
            open_artifact(artifact.folder)

    def test_a_folder_without_a_manifest_is_no_artifact(self, tmp_path):
        with pytest.raises(ArtifactError, match="no artifact"):
            open_artifact(tmp_path)


class TestKey:
    def test_it_does_not_depend_on_how_the_artifact_came_to_be(self, artifact):
        verdict = Verdict("parity", True, "same", {})
        assert replace(artifact.manifest, verdicts=(verdict,)).key == artifact.key

    def test_it_depends_on_every_files_content(self, artifact):
        files = artifact.manifest.files | {"model.onnx": "0" * 64}
        assert replace(artifact.manifest, files=files).key != artifact.key


class TestVerdicts:
    def test_an_artifact_nobody_judged_has_not_passed(self, artifact):
        assert not artifact.passed

    def test_one_failed_gate_is_enough(self, artifact, tmp_path):
        verdicts = (Verdict("parity", True, "", {}), Verdict("quality", False, "", {}))
        folder = tmp_path / "judged"
        folder.mkdir()
        seal_with_verdicts(artifact, verdicts, folder)
        judged = open_artifact(folder)
        assert not judged.passed
        assert judged.manifest.verdicts == verdicts
        assert judged.model_path.read_bytes() == artifact.model_path.read_bytes()

    def test_a_verdict_of_before_there_was_a_third_outcome_is_read(self):
        old = {"gate": "parity", "passed": False, "reason": "far off", "numbers": {}}
        verdict = Verdict(**old)
        assert (verdict.outcome, verdict.word) == ("failed", "FAILED")
        assert Verdict(**verdict.to_json()) == verdict
