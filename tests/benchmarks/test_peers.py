"""Other people's classifiers on prepared clips: each is fed by its own extractor, trained and scored as ours."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from peers import PEERS, PUBLISHED, PeerSettings, build, predict, table, train_and_score

from cmmixer_hf.data import raw_row
from cmmixer_hf.evaluation import score_classification


@pytest.fixture(scope="module")
def clips() -> Dataset:
    """Eight clips of two classes: bright with a high tone, dark with a low one."""
    time = np.arange(8000) / 16000
    rows = []
    for number in range(8):
        bright = number % 2
        frames = np.random.default_rng(number).integers(0, 60, (2, 32, 32, 3)) + 180 * bright
        tone = 8000 * np.sin(2 * np.pi * (300 + 3000 * bright) * time)
        sound = np.stack([tone, tone]).astype(np.int16)
        rows.append(raw_row(str(number), frames.astype(np.uint8), sound, labels=[("dark", "bright")[bright]]))
    return Dataset.from_list(rows)


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_learns_two_classes(name, clips, tmp_path):
    settings = PeerSettings(output=str(tmp_path), epochs=12, batch_size=4, learning_rate=1e-3)
    scores = train_and_score(name, clips, clips, settings)
    assert scores[0].metric == "top1_accuracy"
    assert scores[0].value == 100.0


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_weights_of_a_checkpoint_are_taken_and_the_head_is_new(clips, tmp_path):
    torch.manual_seed(0)
    model, _ = build("ast", clips)
    model.save_pretrained(tmp_path / "ast")
    again, extract = build(f"ast={tmp_path / 'ast'}", clips)
    for name, weight in model.audio_spectrogram_transformer.state_dict().items():
        assert torch.equal(weight, again.audio_spectrogram_transformer.state_dict()[name])
    assert score_classification(predict(again, extract, clips, 4))[0].chance == 50.0


def test_an_unknown_arm_is_named(clips):
    with pytest.raises(ValueError, match=r"no arm 'wav2vec'.*videomae"):
        build("wav2vec", clips)


def test_published_rows_stand_in_the_table():
    assert all(model in table([]) for _, model, *_ in PUBLISHED)
