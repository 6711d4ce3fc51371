"""Cards say what the files say, are what the Hub takes, and their code runs."""

import json
import re
import runpy
from pathlib import Path

import pytest
from hub_server import check_card
from huggingface_hub import ModelCard

import cmmixer_hf
from cmmixer_hf import CMMixerProcessor
from cmmixer_hf.training.model_card import KINDS, render_model_card, write_model_card

CARDS = Path(__file__).parents[2] / "model_cards"
RENDER = runpy.run_path(str(CARDS / "render.py"))
RENDERED = RENDER["cards"]()
CLASSES = [
    name for name in cmmixer_hf.__all__ if name.startswith("CMMixer") and ("For" in name or name.endswith("Model"))
]


@pytest.fixture
def save(tiny_config, extractor, tmp_path):
    """Save a model of a class with its processor; its folder."""

    def save(name: str) -> Path:
        getattr(cmmixer_hf, name)(tiny_config).save_pretrained(tmp_path / "model")
        CMMixerProcessor(extractor).save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


@pytest.mark.parametrize("name", RENDERED)
def test_rendered_cards_are_what_their_sources_say(name):
    text = (CARDS / f"{name}.md").read_text()
    assert text == RENDERED[name]
    assert not check_card(text)


def test_every_card_has_a_source():
    assert {path.stem for path in CARDS.glob("*.md")} == set(RENDERED)


def test_a_released_checkpoint_lies_with_its_card():
    for folder in RENDER["CHECKPOINTS"].iterdir():
        for card in (folder, folder / "pretraining"):
            assert (card / "README.md").read_text() == str(render_model_card(card))


def test_pictures_of_cards_lie_where_the_cards_say():
    cards = [*CARDS.glob("*.md"), *RENDER["CHECKPOINTS"].rglob("README.md")]
    pictures = [card.parent / link for card in cards for link in re.findall(r"!\[.*?\]\((.*?)\)", card.read_text())]
    assert len(pictures) == 3
    assert all(picture.exists() for picture in pictures)


@pytest.mark.parametrize("name", CLASSES)
def test_code_of_the_card_runs(name, save, clip_files, monkeypatch, capsys):
    folder = save(name)
    text = write_model_card(folder).read_text()
    monkeypatch.chdir(folder.parent)
    for media in ("clip.mp4", "track.mp3"):
        (folder.parent / media).write_bytes(clip_files[0].read_bytes())
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 6
    exec(code, {})
    assert capsys.readouterr().out
    assert not check_card(text)
    assert not re.search(r"\n\n\n|None|[{}]{2}", text)


def test_a_card_without_weights_says_so_and_its_code_runs():
    text = RENDER["render"]("cmmixer-duet", RENDER["sources"]()["cmmixer-duet"])
    assert "There are no weights here" in text
    found: dict = {}
    (code,) = re.findall(r"```python\n(.*?)\n\nmodel = ", text, re.DOTALL)
    exec(code, found)
    assert "CMMixerForPreTraining" in found


def test_what_is_known_is_told(save):
    folder = save("CMMixerForRetrieval")
    settings = {"output_dir": "/home/ada/runs", "batch_size": 32, "learning_rate": 0.0002, "save_steps": 9}
    (folder / "training_settings.json").write_text(json.dumps(settings))
    (folder / "environment.json").write_text(json.dumps({"devices": ["NVIDIA H200"], "processes": 2}))
    (folder / "metrics.jsonl").write_text('{"step": 10}\n{"step": 20}\n')
    text = write_model_card(folder, trained_on="nine clips", limits=["It is small."], base_model="me/start").read_text()
    for told in (
        "Trained on nine clips.",
        "20 steps of 64 clips.",
        "On NVIDIA H200, 2 processes.",
        "| `learning_rate` | 0.0002 |",
        "- It is small.",
        "https://huggingface.co/me/start",
        "Not evaluated.",
    ):
        assert told in text
    assert "ada/runs" not in text
    assert "save_steps" not in text


def test_facts_stay_when_scores_are_added(save):
    folder = save("CMMixerForRetrieval")
    write_model_card(folder, trained_on="nine clips", name="me/model", license="mit")
    scores = [{"metric": "R@1", "value": 25.0, "interval": [20.0, 30.0], "direction": "video_to_audio"}]
    evaluation = {"task": "retrieval", "data": {"name": "/data/shards", "clips": 40}, "scores": scores}
    (folder / "evaluation.json").write_text(json.dumps(evaluation | {"protocol": {"pool_size": 40}}))
    card = ModelCard(write_model_card(folder).read_text())
    assert "Trained on nine clips." in card.text
    assert "25.0 [20.0, 30.0]" in card.text
    assert "Measured on shards (clips: 40; pool size: 40)" in card.text
    assert (card.data.license, card.data.model_name) == ("mit", "me/model")
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("recall_at_1", 25.0, "shards")


def test_names_are_text(save):
    text = write_model_card(
        save("CMMixerForRetrieval"), name='a <img src="x">', trained_on="![y](z) of <b>"
    ).read_text()
    assert "\n# a &lt;img src=&#34;x&#34;&gt;\n" in text
    assert "Trained on !&#91;y](z) of &lt;b&gt;." in text


def test_a_wrong_fact_or_folder_is_refused(save, tmp_path):
    with pytest.raises(ValueError, match="'colour' is no field of CardFacts: name, "):
        write_model_card(save("CMMixerModel"), colour="red")
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        render_model_card(tmp_path)


def test_scores_of_older_weights_are_left_out(save):
    folder = save("CMMixerForRetrieval")
    (folder / "evaluation.json").write_text(json.dumps({"video_to_audio": {"R@1": 25.0}}))
    assert "Not evaluated." in write_model_card(folder, evaluated=False).read_text()
    assert "25.0" in write_model_card(folder).read_text()


@pytest.mark.parametrize("name", CLASSES)
def test_parameters_are_counted_in_the_weights(name, save, tiny_config):
    count = getattr(cmmixer_hf, name)(tiny_config).num_parameters()
    assert f"| parameters | {count:,} |" in str(render_model_card(save(name)))


def test_every_class_is_of_a_kind():
    assert {next(kind for kind in KINDS if name.endswith(kind)) for name in CLASSES} == set(KINDS)
