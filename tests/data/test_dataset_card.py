"""The card of prepared clips counts what is there, and has `load_dataset` find the shards."""

import re

import datasets
import pytest
from hub_server import check_card

from cmmixer_hf.data.dataset_card import write_dataset_card
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.data.recipes import Recipe
from cmmixer_hf.media.reading import Sampling


@pytest.fixture
def shards(clip_files, tmp_path):
    (tmp_path / "broken.mp4").write_text("no video")
    files = [*clip_files, tmp_path / "broken.mp4"]
    return prepare(files, tmp_path / "shards", Sampling(num_frames=2, shorter_side=32), progress=False).folder


def test_the_card_counts(shards):
    text = write_dataset_card(shards, name="me/clips", license="cc-by-4.0").read_text()
    assert not check_card(text)
    assert "6 clips with picture and sound (0.0 hours)" in text
    assert "and 1 rows of files that could not be used" in text
    assert "32 × 32 pixels, raw" in text
    assert "license: cc-by-4.0" in text
    for name in load_prepared(shards).column_names:
        assert f"`{name}`" in text


@pytest.mark.parametrize(("need", "told"), [("audio", "2 windows of sound"), ("video", "2 frames")])
def test_clips_of_one_side_have_a_card_too(clip_files, tmp_path, need, told):
    recipe = Recipe(Sampling(num_frames=2, shorter_side=32), need=need)
    text = write_dataset_card(prepare(clip_files, tmp_path / need, recipe, progress=False).folder).read_text()
    assert not check_card(text)
    assert f"of each clip there are {told}." in text
    assert ("| frames of a clip | 2, most often" in text) == (need == "video")


def test_code_of_the_card_runs_on_the_folder(shards, monkeypatch):
    text = write_dataset_card(shards).read_text()
    monkeypatch.chdir(shards.parent)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", shards.parent / "cache")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found: dict = {}
    exec(code, found)
    assert len(found["clips"]) == 6
    assert found["batch"]["waveforms"].shape[:2] == (2, 2)


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no part-\*\.parquet: make them with `cmmixer prepare`"):
        write_dataset_card(tmp_path)


def test_a_name_is_text(shards):
    folder = shards.rename(shards.parent / '<img src="x"> ![y](z)')
    heading = next(line for line in write_dataset_card(folder).read_text().splitlines() if line.startswith("# "))
    assert heading == "# &lt;img src=&#34;x&#34;&gt; !&#91;y](z)"
