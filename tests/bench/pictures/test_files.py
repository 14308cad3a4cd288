"""Pictures beside a README are those of the results beside it."""

from __future__ import annotations

import pytest
from PIL import Image

from bench.pictures.files import DRAWN_FROM, stale_pictures, write_pictures
from bench.report import load_folder
from bench.results_file import save_measurements, save_results


@pytest.fixture
def results(found_of, tmp_path):
    save_results(found_of["capacity"], tmp_path / "results" / "cap.json")
    return tmp_path / "results"


def test_each_results_file_has_its_first_picture_for_light_and_dark(results, tmp_path):
    files = load_folder(results)
    written = write_pictures(files, tmp_path / "p")
    assert sorted(each.name for each in written) == ["cap-dark.png", "cap-light.png"]
    with Image.open(written[0]) as image:
        assert image.text[DRAWN_FROM] == files[0].sha256
        assert image.text["Title"].startswith("a: response time and goodput")
        assert image.width >= 1200
    assert stale_pictures(files, tmp_path / "p") == []
    assert write_pictures(files, tmp_path / "p") == []


def test_pictures_of_other_results_of_none_or_that_are_no_picture_are_noticed(
    results, make_measurement, tmp_path
):
    folder = tmp_path / "p"
    write_pictures(load_folder(results), folder)
    (folder / "cap-dark.png").write_bytes(b"no picture")
    (folder / "gone-dark.png").write_bytes((folder / "cap-light.png").read_bytes())
    stale = stale_pictures(load_folder(results), folder)
    assert [each.name for each in stale] == ["cap-dark.png", "gone-dark.png"]
    save_measurements([make_measurement()], results / "cap.json")
    assert len(stale_pictures(load_folder(results), folder)) == 3
    write_pictures(load_folder(results), folder)
    assert sorted(each.name for each in folder.iterdir()) == ["cap-dark.png", "cap-light.png"]
    assert stale_pictures(load_folder(results), folder) == []
