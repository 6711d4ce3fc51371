import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.search.facet_columns import FacetColumns
from cmmixer_hf.search.filters import Interval
from cmmixer_hf.search.index_rows import (
    PLACE,
    POOLED,
    SEGMENTS,
    Candidates,
    make_rows,
    matrix,
    metadata_json,
    number_files,
    pool,
    relabel,
    row_segments,
    with_precision,
)

ITEMS = [
    {"path": "/a.mp3", "start": 0.0, "end": 30.0, "title": "Ode", "genre": "choir", "tags": ["loud", "D minor"]},
    {"path": "/a.mp3", "start": 30.0, "end": 60.0, "title": "Ode", "genre": "choir", "tags": ["loud"]},
    {"path": "/b.mp3", "title": 'Nocturne "No. 2"', "year": 1832, "tags": []},
    {"title": "ohne Datei, größer=kleiner", "genre": None},
]


def list_items(table: pa.Table) -> list[dict]:
    places = list(zip(*(table[name].to_pylist() for name in (*PLACE, "stamp")), strict=True))
    metadata = table["metadata"].to_pylist()
    found = Candidates(row_segments(table, 4), number_files(table["path"]), places.__getitem__, metadata.__getitem__)
    return [found.item(number) for number in range(len(found))]


def match(table: pa.Table, where) -> np.ndarray:
    return FacetColumns(table).matching(where)


def rows(items=ITEMS, seed: int = 0) -> tuple[pa.Table, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeds = nn.functional.normalize(torch.randn(len(items), 4, 16, generator=generator), dim=-1)
    return make_rows(items, embeds, precision="float32"), embeds


def test_items_and_embeddings_come_back():
    table, embeds = rows()
    assert list_items(table) == ITEMS
    torch.testing.assert_close(row_segments(table, 4), embeds, rtol=0, atol=0)
    np.testing.assert_array_equal(matrix(table[POOLED].chunk(0)), pool(embeds).numpy())


def test_chunks_and_slices_read_alike():
    table, embeds = rows()
    pieces = pa.concat_tables([table.slice(1, 2), table.slice(3), table])
    order = [1, 2, 3, 0, 1, 2, 3]
    torch.testing.assert_close(row_segments(pieces, 4), embeds[order], rtol=0, atol=0)
    for where in ({"title": ["Ode"]}, {"tags": ["D minor"]}, {"year": [1832]}, {"genre": ["None"]}):
        np.testing.assert_array_equal(match(pieces, where), match(table, where)[order])


def test_a_filter_is_any_value_of_all_keys():
    table, _ = rows()
    assert match(table, {}).tolist() == [True] * 4
    assert match(table, {"genre": ["choir"]}).tolist() == [True, True, False, False]
    assert match(table, {"tags": ["D minor", "quiet"]}).tolist() == [True, False, False, False]
    assert match(table, {"year": ["1832"]}).tolist() == match(table, {"year": [1832]}).tolist()
    assert match(table, {"genre": ["choir"], "tags": ["D minor"]}).tolist() == [True, False, False, False]
    assert match(table, {"title": ["ohne Datei, größer=kleiner"]}).tolist() == [False, False, False, True]
    assert not match(table, {"composer": ["Chopin"]}).any()


def test_rows_of_other_metadata_share_a_table():
    first, _ = rows()
    second, _ = rows([{"path": "/c.mp3", "mood": "calm"}])
    both = pa.concat_tables([first, second])
    assert match(both, {"mood": ["calm"]}).tolist() == [False] * 4 + [True]


def test_new_labels_are_found_and_old_ones_are_not():
    table, embeds = rows()
    changed = relabel(table, {"/a.mp3": metadata_json({"title": "Ode to Joy", "genre": "symphony"})})
    assert [item["title"] for item in list_items(changed)] == ["Ode to Joy"] * 2
    assert match(changed, {"genre": ["symphony"]}).all()
    assert not match(changed, {"genre": ["choir"]}).any()
    torch.testing.assert_close(row_segments(changed, 4), embeds[:2], rtol=0, atol=0)
    assert changed.schema == table.schema


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"year": [Interval(1800, 1832)]}, [2]),
        ({"year": [Interval(1800, 1832, high_open=True)]}, []),
        ({"title": [Interval()]}, []),
        ({"title": ["Ode", Interval(0, 1)], "tags": ["D minor"]}, [0]),
        ({"path": ["/b.mp3", "/c.mp3"]}, [2]),
        ({"start": [Interval(high=10)]}, [0]),
    ],
)
def test_numbers_lie_in_intervals_and_places_are_keys(where, found):
    table, _ = rows()
    assert np.flatnonzero(match(table, where)).tolist() == found
    pieces = pa.concat_tables([table.slice(3, 1), table.slice(0, 3)])
    assert np.flatnonzero(np.roll(match(pieces, where), -1)).tolist() == found


def test_what_was_measured_counts_where_nobody_says_otherwise():
    item = {"path": "/a.mp3", "genre": "choir", "measured": {"title": "track01", "bpm": 92.5, "genre": "rock"}}
    table, _ = rows([item])
    (back,) = list_items(table)
    assert back == {"path": "/a.mp3", "genre": "choir", "title": "track01", "bpm": 92.5}
    assert match(table, {"bpm": [Interval(90, 95)], "genre": ["choir"], "title": ["track01"]}).all()
    assert not match(table, {"genre": ["rock"]}).any()


@pytest.mark.parametrize(("precision", "bits", "error"), [("float32", 32, 0), ("float16", 16, 3e-4), ("int8", 8, 1e-2)])
def test_segments_are_kept_in_as_many_bits_as_one_likes(precision, bits, error):
    exact, embeds = rows()
    table = make_rows(ITEMS, embeds, precision=precision)
    assert table.schema.field(SEGMENTS).type.value_type.bit_width == bits
    assert (row_segments(table, 4) - embeds).abs().max() <= error
    back = with_precision(table, 4, "float32")
    assert back.schema == exact.schema
    torch.testing.assert_close(row_segments(back, 4), row_segments(table, 4))


def test_an_embedding_that_is_not_finite_is_refused():
    _, embeds = rows()
    embeds[2, 0, 0] = float("nan")
    with pytest.raises(SourceError, match=r"/b.mp3 an embedding that holds NaN"):
        make_rows(ITEMS, embeds)


def test_embeddings_of_another_length_and_an_unknown_precision_are_refused():
    embeds = nn.functional.normalize(torch.randn(4, 4, 16), dim=-1)
    with pytest.raises(ValueError, match="precision must be one of float16, int8, float32, got 'float8'"):
        make_rows(ITEMS, embeds, precision="float8")
    embeds[2, 1] *= 3
    with pytest.raises(SourceError, match=r"/b.mp3 have lengths 1\.00 to 3\.00: L2-normalise them"):
        make_rows(ITEMS, embeds)
