import torch

from cmmixer_hf.data import StackMaker, collate_clips
from cmmixer_hf.prepare import prepare_clip


def test_kept_spectrograms_are_the_same(clip_files, sampling, extractor):
    rows = [prepare_clip(file, sampling) for file in clip_files]
    keeping, making = StackMaker(extractor, keep_spectrograms=True), StackMaker(extractor)
    for places in ((0, 1, 2), (2, 3), (3, 0, 5)):
        batch = collate_clips([rows[place] for place in places])
        torch.testing.assert_close(keeping(batch)["audio_values"], making(batch)["audio_values"])


def test_a_track_has_one_number_everywhere(clip_files, sampling):
    row = prepare_clip(clip_files[0], sampling)
    other = row | {"track_id": "another"}
    first, second, third = collate_clips([row, other, row])["track_id"].tolist()
    assert first == third != second
