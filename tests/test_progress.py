"""A bar in a log is a few whole lines."""

import subprocess
import sys

from cmmixer_hf import cli
from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.progress import Progress

LOOP = "from cmmixer_hf.progress import Progress\nfor _ in Progress(range(5000), desc='counting', mininterval={}): pass"


def written(mininterval: str) -> str:
    command = [sys.executable, "-c", LOOP.replace(", mininterval={}", mininterval)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_a_log_has_the_first_and_the_last_state_on_lines_of_their_own():
    lines = written("").splitlines()
    assert [line.split("|")[0] for line in lines] == ["counting:   0%", "counting: 100%"]
    assert "\r" not in written("")


def test_more_often_where_asked():
    assert len(written(", mininterval=0").splitlines()) > 2


def test_the_message_of_an_error_stands_alone(monkeypatch, capsys):
    def fail(verb: str, words: list[str]) -> None:
        bar = Progress(total=3, desc="counting")
        bar.update()
        raise SourceError(f"{bar.desc} went wrong")  # whose traceback keeps the bar

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "cmmixer: counting went wrong"
