import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmmixer_hf.data import prepared_clips
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepared_clips import PreparedClips, SourceError, load_prepared
from cmmixer_hf.data.recipes import Recipe
from cmmixer_hf.media.reading import Sampling


def write_shards(folder, *, sizes=(5, 3, 4), group=1, broken=()) -> list[str]:
    """Shards whose rows are numbered throughout; those in `broken` carry an error."""
    paths, number = [], 0
    for shard, size in enumerate(sizes):
        rows = [
            {"clip_id": str(n), "frames": [bytes([n]) * 9], "error": "bad" if n in broken else None}
            for n in range(number, number + size)
        ]
        schema = pa.schema({"clip_id": pa.string(), "frames": pa.list_(pa.binary()), "error": pa.string()})
        paths.append(str(folder / f"{shard}.parquet"))
        pq.write_table(pa.Table.from_pylist(rows, schema), paths[-1], row_group_size=group)
        number += size
    return paths


@pytest.mark.parametrize("group", [1, 2, 100])
def test_rows_and_columns_whatever_the_row_groups(tmp_path, group):
    clips = PreparedClips(write_shards(tmp_path, group=group, broken={0, 6}))
    names = [str(n) for n in range(12) if n not in (0, 6)]
    assert len(clips) == 10
    assert clips["clip_id"] == names == [row["clip_id"] for row in clips]
    order = np.random.default_rng(0).permutation(10).tolist()
    assert [row["clip_id"] for row in clips.__getitems__(order)] == [names[place] for place in order]
    assert clips[-1]["frames"] == [bytes([11]) * 9]
    with pytest.raises(IndexError):
        clips[10]


def test_selecting_clips_and_columns(tmp_path):
    clips = PreparedClips(write_shards(tmp_path))
    some = clips.select([9, 1, 2, 10])
    assert some["clip_id"] == ["9", "1", "2", "10"]
    assert some.shard_sizes == [1, 2, 1]
    assert clips.shard_sizes == [5, 3, 4]
    assert some.select([3])["clip_id"] == ["10"]
    assert clips.select_columns(["clip_id"])[4] == {"clip_id": "4"}
    assert clips.select([]).shard_sizes == []
    with pytest.raises(ValueError, match=r"\['nonsense'\]"):
        clips.select_columns(["nonsense"])


@pytest.mark.parametrize("several", [slice(0, 2), [0, 1], np.arange(2)])
def test_several_places_are_for_select(tmp_path, several):
    with pytest.raises(TypeError, match=f"got {type(several).__name__}: select"):
        PreparedClips(write_shards(tmp_path))[several]


def test_selecting_by_value_names_what_there_is(tmp_path):
    clips = PreparedClips(write_shards(tmp_path, sizes=(2, 1)))
    assert clips.select_where("clip_id", "1")["clip_id"] == ["1"]
    with pytest.raises(SourceError, match="none of 3 clips has clip_id '3': they have '0', '1', '2'"):
        clips.select_where("clip_id", "3")
    with pytest.raises(SourceError, match="none has any error: give each one"):
        clips.select_where("error", "bad")


def test_opening_reads_no_clip(tmp_path):
    rows = [{"frames": [bytes(1_000_000)], "error": None} for _ in range(20)]
    schema = pa.schema({"frames": pa.list_(pa.binary()), "error": pa.string()})
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "big.parquet", row_group_size=1, compression="none")
    del rows
    before = pa.total_allocated_bytes()
    clips = PreparedClips([str(tmp_path / "big.parquet")])
    held = [clips[place]["frames"][0] for place in (3, 7)]
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert held == [bytes(1_000_000)] * 2


def test_it_can_be_pickled_and_opens_its_own_files(tmp_path):
    clips = PreparedClips(write_shards(tmp_path)).select([3, 0])
    assert clips[0] == pickle.loads(pickle.dumps(clips))[0]


def test_more_shards_than_a_process_may_open(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared_clips, "MOST_OPEN", 2)
    clips = PreparedClips(write_shards(tmp_path, sizes=[1] * 10))
    assert [row["clip_id"] for row in clips] == clips["clip_id"] == [str(n) for n in range(10)]
    assert len(clips._files._open) == 2


def test_a_remote_folder_is_read_in_place(tmp_path):
    import fsspec

    remote = fsspec.filesystem("memory")
    for path in write_shards(tmp_path):
        remote.put_file(path, f"/bucket/{path[-9:]}")
    clips = PreparedClips([f"memory://bucket/{number}.parquet" for number in range(3)])
    assert clips["clip_id"] == [str(n) for n in range(12)]
    assert clips[7]["frames"] == [bytes([7]) * 9]


def test_clips_of_an_earlier_version_say_so_and_are_not_added_to(prepared_folder, clip_files, tmp_path, caplog):
    shutil.copytree(prepared_folder, tmp_path / "old")
    load_prepared(tmp_path / "old")
    assert not caplog.records
    claim = json.loads((tmp_path / "old" / "prepared.json").read_text())
    del claim["recipe"]["sampling"]["version"]
    (tmp_path / "old" / "prepared.json").write_text(json.dumps(claim | {"digest": "other"}))
    load_prepared(tmp_path / "old")
    assert "old was made by an earlier version" in caplog.text
    with pytest.raises(SourceError, match="by an earlier version, which read files otherwise"):
        prepare(clip_files, tmp_path / "old", Recipe(Sampling(num_frames=2, shorter_side=32)), progress=False)
