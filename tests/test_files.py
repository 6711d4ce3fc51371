import csv
import errno
import hashlib

import pytest
from filelock import FileLock, Timeout

from cmmixer_hf.files import atomic_directory, atomic_file, file_digest, locked, new_directory, read_csv, write_csv


def test_a_file_is_whole_or_absent(tmp_path):
    target = tmp_path / "a" / "result.json"
    with pytest.raises(KeyboardInterrupt), atomic_file(target) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert not list(target.parent.iterdir())
    with atomic_file(target) as partial:
        partial.write_text("whole")
    assert [path.read_text() for path in target.parent.iterdir()] == ["whole"]


def test_a_file_that_cannot_be_written_goes_by_the_name_that_the_user_knows(tmp_path):
    target = tmp_path / "a" / "numbers.txt"
    with pytest.raises(FileNotFoundError) as raised, atomic_file(target) as partial:
        partial.parent.rmdir()
        partial.write_text("1 2 3")
    assert raised.value.filename == str(target)


def test_a_new_folder_replaces_nothing(tmp_path):
    with new_directory(tmp_path / "a" / "model") as partial:
        (partial / "weights").touch()
    for taken in (tmp_path / "a", tmp_path / "a" / "model", tmp_path / "a" / "model" / "weights"):
        with pytest.raises(FileExistsError, match="name a new or empty folder"), new_directory(taken):
            pass
    with pytest.raises(OSError, match="not empty"), new_directory(tmp_path / "b") as partial:
        (partial / "weights").touch()
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "thesis").touch()  # somebody else was quicker
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "a", "a/model", "a/model/weights", "b", "b/thesis"
    ]  # fmt: skip


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


CELLS = ["=1+1", "+1", "-rf.mp4", "@SUM(1)", "'=quoted", "''", "it's", "a\x0bb", "two\nlines", "\tx", "a, b", ""]


def test_a_table_keeps_its_cells_and_none_of_them_is_a_formula(tmp_path):
    write_csv(tmp_path / "a.csv", [["path", "reason"], *([cell, "bad"] for cell in CELLS)])
    assert read_csv(tmp_path / "a.csv") == [["path", "reason"], *([cell, "bad"] for cell in CELLS)]
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert not [row for row in csv.reader(file) if row[0][:1] in tuple("=+-@\t\r")]
    assert read_csv(tmp_path / "none.csv") == []


def test_numbers_stay_numbers(tmp_path):
    write_csv(tmp_path / "a.csv", [["-19.1", "-3", "0.5", "-1-2", "'-1"]])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").strip() == "-19.1,-3,0.5,'-1-2,'-1"
    assert read_csv(tmp_path / "a.csv") == [["-19.1", "-3", "0.5", "-1-2", "'-1"]]


def test_what_is_no_unicode_is_written_as_escapes(tmp_path):
    write_csv(tmp_path / "a.csv", [["bytes\udcff", "\ud800"]])
    assert read_csv(tmp_path / "a.csv") == [["bytes\\udcff", "\\ud800"]]


def test_equal_files_have_equal_digests(tmp_path):
    for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    first, second, third = (file_digest(tmp_path / name) for name in "abc")
    assert first == second != third
    assert first == hashlib.sha256(b"1").hexdigest()


@pytest.mark.parametrize("fault", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_where_there_are_no_locks_it_warns_and_goes_on(fault, tmp_path, monkeypatch, caplog):
    def refuse(lock: FileLock, timeout: float) -> None:
        raise fault

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with locked(tmp_path / "lock", patience=0):
        pass
    assert "no locks in this file system" in caplog.text


def test_a_lock_keeps_others_out_and_other_faults_are_told(tmp_path, monkeypatch):
    with locked(tmp_path / "lock", patience=0), pytest.raises(Timeout), locked(tmp_path / "lock", patience=0):
        pass

    def refuse(lock: FileLock, timeout: float) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(PermissionError), locked(tmp_path / "lock", patience=0):
        pass
