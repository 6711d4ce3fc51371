import pytest
import torch
from torch import nn

from cmmixer_hf.search import unfinished
from cmmixer_hf.search.embedding import FileEmbeddings
from cmmixer_hf.search.index_facts import IndexFacts, ModelMismatchError
from cmmixer_hf.search.library import LibraryFile
from cmmixer_hf.search.unfinished import PartWriter, Unfinished

FACTS = IndexFacts("here", num_segments=2, size=4, identity="a" * 32)


def embedded(name: str, sections: int = 2, errors: int = 0) -> FileEmbeddings:
    embeds = list(nn.functional.normalize(torch.randn(sections, 2, 4), dim=-1))
    places = [(10.0 * number, 10.0 * number + 10) for number in range(sections)]
    return FileEmbeddings(LibraryFile(name, {"title": name}), places, embeds, [f"{name}: bad"] * errors)


def test_what_is_written_is_found_again(tmp_path):
    work = Unfinished(tmp_path / "unfinished", FACTS)
    assert work.done() == {}
    with PartWriter(work) as writer:
        writer.add(embedded("a"), "1")
        writer.add(embedded("b", sections=0, errors=2), "1")
        writer.flush()
        writer.add(embedded("c", errors=1), "1")
    assert work.done() == {"a": "1", "b": "1", "c": "1"}
    rows = [row for part in work.rows({"a": "1", "b": "1", "c": "1"}) for row in part.to_pylist()]
    places = [("a", 0.0, 10.0), ("a", 10.0, 20.0), ("c", 0.0, 10.0), ("c", 10.0, 20.0)]
    assert sorted((row["path"], row["start"], row["end"]) for row in rows) == places
    assert not any(part.schema.metadata for part in work.rows({"a": "1", "b": "1", "c": "1"}))
    assert work.errors({"b", "c"}) == {"b": ["b: bad"] * 2, "c": ["c: bad"]}
    assert work.errors({"a", "b"}) == {"b": ["b: bad"] * 2}
    work.clear()
    assert not (tmp_path / "unfinished").exists()


def test_a_file_that_has_changed_since_does_not_count(tmp_path):
    work = Unfinished(tmp_path, FACTS)
    with PartWriter(work) as writer:
        writer.add(embedded("a"), "1")
        writer.add(embedded("b"), "1")
    assert [len(part) for part in work.rows({"a": "2", "b": "1"})] == [2]
    assert [len(part) for part in work.rows({"a": "2"})] == [0]


def test_a_part_is_written_when_it_is_time_or_there_is_much(tmp_path, monkeypatch):
    work = Unfinished(tmp_path, FACTS)
    writer = PartWriter(work)
    writer.add(embedded("a"), "1")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(unfinished, "SECTIONS_PER_PART", 4)
    writer.add(embedded("b"), "1")
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(unfinished, "SECONDS_PER_PART", 0)
    writer.add(embedded("c", sections=0, errors=1), "1")
    assert len(list(tmp_path.iterdir())) == 2
    assert work.done() == {"a": "1", "b": "1", "c": "1"}


def test_an_error_on_the_way_keeps_what_is_done(tmp_path):
    work = Unfinished(tmp_path, FACTS)
    with pytest.raises(KeyboardInterrupt), PartWriter(work) as writer:
        writer.add(embedded("a"), "1")
        raise KeyboardInterrupt
    assert work.done() == {"a": "1"}


def test_another_model_does_not_go_on_with_it(tmp_path):
    Unfinished(tmp_path, FACTS).claim()
    Unfinished(tmp_path, FACTS).claim()
    with pytest.raises(ModelMismatchError, match="made by here"):
        Unfinished(tmp_path, IndexFacts("there", 2, 4, identity="b" * 32)).claim()
