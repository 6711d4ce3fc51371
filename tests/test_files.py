import pytest

from cmmixer_hf.files import atomic_directory, atomic_file


def test_a_file_is_whole_or_absent(tmp_path):
    target = tmp_path / "a" / "result.json"
    with pytest.raises(KeyboardInterrupt), atomic_file(target) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert not list(target.parent.iterdir())
    with atomic_file(target) as partial:
        partial.write_text("whole")
    assert [path.read_text() for path in target.parent.iterdir()] == ["whole"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "model"
    with atomic_directory(target) as partial:
        (partial / "old").touch()
    with pytest.raises(OSError, match="full"), atomic_directory(target) as partial:
        (partial / "new").touch()
        raise OSError("disk full")
    assert [path.name for path in target.iterdir()] == ["old"]
    with atomic_directory(target) as partial:
        (partial / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
