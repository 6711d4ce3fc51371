"""`cmmixer evaluate` of a model of another family, on files."""

import json

import pytest
import torch
from foreign_models import make_clap

from cmmixer_hf.cli import main
from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.evaluation.embedded_clips import embed_specs, find_evaluated
from cmmixer_hf.evaluation.retrieval import evaluate_retrieval
from cmmixer_hf.search import Cutting, embed_file, open_embedder
from cmmixer_hf.search.embedders import embedder as opening


@pytest.fixture(scope="module")
def ours(retriever_folder):
    return open_embedder(retriever_folder, "cpu")


def test_files_are_embedded_as_search_does_and_what_is_unusable_is_named(ours, clip_files, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_text("not a video")
    lines = [f"{path},{path.stem[-1] in '12'}" for path in (*clip_files, tmp_path / "broken.mp4")]
    (tmp_path / "list.csv").write_text("\n".join(["video,split", *lines]))
    clips = find_evaluated(str(tmp_path / "list.csv"), "model")
    found = embed_specs(ours, clips, batch_size=4, progress=False)
    for side, embeds in (("video", found.video), ("audio", found.audio)):
        expected = torch.stack([embed_file(path, ours, Cutting(side)).embeds[0] for path in clip_files])
        torch.testing.assert_close(embeds, expected)
    assert "broken.mp4" in capsys.readouterr().err
    assert len(find_evaluated(str(tmp_path / "list.csv"), "model", split="True")) == 2
    with pytest.raises(SourceError, match="is of split 'test' and fold None"):
        find_evaluated(str(tmp_path / "list.csv"), "model", split="test")


def test_the_command_scores_any_embedder(ours, clip_files, tmp_path, monkeypatch, retriever_folder):
    """Ours, taken for one of another family."""
    monkeypatch.setattr("cmmixer_hf.evaluation.command.is_ours", lambda model: False)
    output = tmp_path / "scores.json"
    arguments = ["evaluate", str(clip_files[0].parent), "--model", str(retriever_folder), "--output", str(output)]
    assert main([*arguments, "--resamples", "5"]) == 0
    result = json.loads(output.read_text())
    assert (result["task"], result["model"]["architecture"], result["data"]["clips"]) == ("retrieval", "Tower", 6)
    found = evaluate_retrieval(embed_specs(ours, find_evaluated(str(clip_files[0].parent), "model"), progress=False))
    scores = {score["metric"]: score["value"] for score in result["scores"] if score["direction"] == "video_to_audio"}
    assert scores == pytest.approx(found["video_to_audio"])


def test_a_model_without_pictures_and_prepared_clips_are_refused(clip_files, prepared_folder, tmp_path, capsys):
    clap = str(make_clap(tmp_path / "clap"))
    assert not opening.is_ours(clap)
    output = ["--output", str(tmp_path / "scores.json")]
    assert main(["evaluate", str(clip_files[0].parent), "--model", clap, *output]) == 1
    assert "knows no video, and scores compare video with audio" in capsys.readouterr().err
    assert main(["evaluate", str(prepared_folder), "--model", clap, *output]) == 1
    assert capsys.readouterr().err
