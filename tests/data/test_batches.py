import pickle
from typing import ClassVar

import av
import fsspec
import numpy as np
import pytest
import torch
from datasets import load_dataset

from cmmixer_hf import CAVMAEFeatureExtractor, CMMixerFeatureExtractor
from cmmixer_hf.data.batches import KeptClips, LabelNames, StackMaker, collate_clips, unpack_frames
from cmmixer_hf.data.preparation import prepare, prepare_clip
from cmmixer_hf.data.prepared_clips import SourceError, load_prepared


@pytest.fixture
def rows(clip_files, sampling):
    return [prepare_clip(file, sampling) for file in clip_files]


def test_kept_clips_are_read_once_and_make_the_same_stacks(rows, extractor):
    class Counting(list):
        asked: ClassVar[list[int]] = []

        def __getitems__(self, places):
            self.asked += places
            return [self[place] for place in places]

    kept, make_stacks = KeptClips(Counting(rows), extractor), StackMaker(extractor)
    for places in ((0, 1, 2), (2, 3), (3, 0, 5)):
        expected = make_stacks(collate_clips([rows[place] for place in places]))
        torch.testing.assert_close(make_stacks(collate_clips(kept.__getitems__(places))), expected)
    assert Counting.asked == [0, 1, 2, 3, 5]
    assert len(kept) == len(rows)
    assert not kept[0]["waveforms"]


def test_kept_clips_leave_what_they_keep_behind_when_they_go_to_a_worker(rows, extractor):
    kept = KeptClips(rows, extractor)
    size = len(pickle.dumps(kept))
    assert kept[2]["spectrograms"].shape[0] == 2
    assert len(pickle.dumps(kept)) == size


def test_kept_clips_without_sound_stay_without(rows, extractor):
    kept = KeptClips([row | {"waveforms": None} for row in rows[:2]], extractor)
    assert set(StackMaker(extractor)(collate_clips([kept[0], kept[1]]))) == {"pixel_values"}


def test_a_track_has_one_number_everywhere(rows):
    other = rows[0] | {"track_id": "another"}
    first, second, third = collate_clips([rows[0], other, rows[0]])["track_id"].tolist()
    assert first == third != second
    nameless = [row | {"track_id": empty} for row, empty in zip(rows, (None, None, ""), strict=False)]
    assert len(set(collate_clips(nameless)["track_id"].tolist())) == 3  # each its own, as `embed_clips` has it


def test_a_repeated_clip_has_its_own_crops_and_one_sound(rows, extractor):
    torch.manual_seed(0)
    ramp = np.tile(np.arange(32, dtype=np.uint8)[:, None], (32, 1, 3))
    pictures = {"frame_shape": [32, 32], "frames": [ramp.tobytes()] * 2}
    dark, bright = rows[0] | pictures, rows[1] | pictures | {"frames": [(ramp + 200).tobytes()] * 2}
    batch = collate_clips([dark, bright])
    stacks = StackMaker(extractor, augment=True, repeats=3)(batch)
    once = StackMaker(extractor)(batch)["audio_values"]
    torch.testing.assert_close(stacks["audio_values"], once.repeat_interleave(3, 0))
    assert (stacks["pixel_values"].mean((1, 2, 3, 4)) > 0).tolist() == [False] * 3 + [True] * 3
    assert len({tuple(sample.flatten().tolist()) for sample in stacks["pixel_values"]}) == 6


def test_the_three_channels_of_a_spectrogram_are_stored_once(rows, extractor):
    for repeats in (1, 2):
        audio_values = StackMaker(extractor, repeats=repeats)(collate_clips(rows[:2]))["audio_values"]
        assert audio_values.stride(2) == 0


def test_a_batch_has_what_all_its_clips_have(rows, extractor):
    mute = [row | {"waveforms": None} for row in rows[:2]]
    assert set(StackMaker(extractor)(collate_clips(mute))) == {"pixel_values"}
    sound = [row | {"frames": None} for row in rows[:2]]
    assert set(StackMaker(extractor)(collate_clips(sound))) == {"audio_values"}
    assert "frames" not in collate_clips(rows[:2], columns=["waveforms"])
    with pytest.raises(SourceError, match="clip clip0 has no waveforms"):
        collate_clips([rows[2], mute[0]], columns=["frames", "waveforms"])


@pytest.mark.parametrize("kind", [CMMixerFeatureExtractor, CAVMAEFeatureExtractor])
@pytest.mark.parametrize("other", [{"window_seconds": 1.0}, {"window_seconds": 2.6, "sampling_rate": 8000}])
def test_windows_of_another_sampling_are_refused_with_both(rows, other, kind):
    theirs = kind(image_size=32, num_frames=2, **other)
    short = {"window_seconds": 1.0}.items() <= other.items()
    got, takes = ("41600 samples .2.6 s at 16000 Hz", "16000 .1 s") if short else ("5.2 s at 8000 Hz", "20800 .2.6 s")
    with pytest.raises(SourceError, match=f"{got}.*takes {takes}.*prepare the clips"):
        StackMaker(theirs)(collate_clips(rows[:2]))
    assert "pixel_values" in StackMaker(theirs)(collate_clips(rows[:2], columns=["frames"]))


def test_labels_come_along_where_a_model_has_classes(rows):
    labelled = [row | {"labels": [name]} for row, name in zip(rows, "cab", strict=False)]
    assert collate_clips(labelled, labels=LabelNames(("a", "b", "c")))["labels"].tolist() == [2, 0, 1]
    assert "labels" not in collate_clips(labelled)


def test_frames_kept_as_jpeg(rows):
    height = width = 48
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    frames = np.stack([np.stack([ramp[None].repeat(height, 0)] * 3, -1), np.full((height, width, 3), 90, np.uint8)])
    row = rows[0] | {
        "frames": [as_jpeg(frame) for frame in frames],
        "frame_shape": [height, width],
        "frame_codec": "jpeg",
    }
    assert np.abs(unpack_frames(row).numpy().astype(int) - frames).max() <= 4


def as_jpeg(frame: np.ndarray) -> bytes:
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = frame.shape[1], frame.shape[0], "yuvj444p"
    codec.time_base, codec.options = 1, {"q": "1"}
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuvj444p")
    return b"".join(bytes(packet) for packet in [*codec.encode(picture), *codec.encode(None)])


def test_datasets_reads_the_shards_too(clip_files, sampling, tmp_path):
    prepare(clip_files, tmp_path / "out", sampling, progress=False)
    clips = load_prepared(tmp_path / "out")
    files = str(tmp_path / "out" / "*.parquet")
    mapped = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    streamed = load_dataset("parquet", data_files=files, split="train", streaming=True)
    for ours, theirs, passing in zip(clips, mapped, streamed, strict=True):
        assert ours == theirs == passing
    torch.testing.assert_close(collate_clips(list(mapped))["frames"], collate_clips(list(clips))["frames"])


def test_a_folder_elsewhere_is_read_in_place(clip_files, sampling, tmp_path):
    prepare(clip_files, tmp_path / "out", sampling, progress=False)
    fsspec.filesystem("memory").put(str(tmp_path / "out"), "/elsewhere", recursive=True)
    there, here = load_prepared("memory://elsewhere"), load_prepared(tmp_path / "out")
    assert list(there) == list(here)
    with pytest.raises(SourceError, match="memory://nowhere holds no prepared clips"):
        load_prepared("memory://nowhere")
