"""Programs are read as data: an archive that would be unpickled is refused."""

import io
import json
import pickle
import shutil
import zipfile

import pytest
import torch

from optimize.artifact import ArtifactError
from optimize.torch_program import load_program


class Trap:
    def __reduce__(self):
        return (print, ("a pickle was run",))


def rewrite(source, target, change):
    """Copy an archive, letting ``change`` replace the content of its members."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = change(entry.filename, old.read(entry))
            new.writestr(entry.filename, content)
    return target


def test_a_program_that_was_captured_is_loaded(captured):
    assert isinstance(load_program(captured.model_path), torch.export.ExportedProgram)


def test_sample_inputs_that_hold_a_pickle_are_refused(captured, tmp_path, capsys):
    def change(name, content):
        if "sample_inputs" not in name:
            return content
        buffer = io.BytesIO()
        torch.save(Trap(), buffer)
        return buffer.getvalue()

    path = rewrite(captured.model_path, tmp_path / "trap.pt2", change)
    with pytest.raises(ArtifactError, match="sample_inputs"):
        load_program(path)
    assert "a pickle was run" not in capsys.readouterr().out


@pytest.mark.parametrize("changed", [{"use_pickle": True}, {"path_name": "opaque_obj_0"}])
def test_weights_marked_as_pickles_are_refused(captured, tmp_path, changed):
    def change(name, content):
        if not name.endswith("_weights_config.json"):
            return content
        data = json.loads(content)
        next(iter(data["config"].values())).update(changed)
        return json.dumps(data)

    path = rewrite(captured.model_path, tmp_path / "trap.pt2", change)
    with pytest.raises(ArtifactError, match="stored as a pickle"):
        load_program(path)


def test_a_bare_pickle_is_refused(tmp_path, capsys):
    path = tmp_path / "model.pt2"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ArtifactError, match="not a readable"):
        load_program(path)
    assert "a pickle was run" not in capsys.readouterr().out


def test_a_cut_off_file_is_refused(captured, tmp_path):
    path = tmp_path / "cut.pt2"
    shutil.copy(captured.model_path, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match="not a readable"):
        load_program(path)
