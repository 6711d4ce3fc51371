from dataclasses import dataclass, field
from typing import Literal

import pytest

from cmmixer_hf.flags import SettingsParser, setting


@dataclass
class Settings:
    """Settings of every kind."""

    files: list[str] = field(metadata={"help": "what to read"})
    model: str = field(metadata={"help": "what to use"})
    places: list[int] = field(default_factory=lambda: [1, 2], metadata={"help": "which of them, 100 % by default"})
    kind: Literal["a", "b"] | None = setting(None, "of which kind")
    count: int = setting(3, "how many", aliases=["-c"], choices=[3, 4])
    quick: bool = setting(True, "or slow")


def read(line: str, *, positional: bool) -> Settings:
    return Settings(**vars(SettingsParser(Settings, positional=positional).parse_args(line.split())))


def test_what_is_not_given_is_as_the_class_has_it():
    assert read("x y --model m", positional=True) == Settings(["x", "y"], "m")


def test_positional_arguments_and_flags_of_one_value():
    line = "x y --model m --places 5 --places 6 --kind b -c 4 --quick false"
    assert read(line, positional=True) == Settings(["x", "y"], "m", [5, 6], "b", 4, False)


def test_flags_alone_with_several_values():
    line = "--files x y --model m --places 5 6 --quick"
    assert read(line, positional=False) == Settings(["x", "y"], "m", [5, 6])


@pytest.mark.parametrize("flag", ["--kind c", "--count 5", "--quick maybe", "--places 1.5", "--pla 1"])
def test_what_does_not_fit_is_named(flag, capsys):
    with pytest.raises(SystemExit):
        read(f"x --model m {flag}", positional=True)
    assert flag.split()[0] in capsys.readouterr().err


def test_help_tells_defaults(capsys):
    with pytest.raises(SystemExit):
        read("--help", positional=True)
    text = capsys.readouterr().out
    assert "how many (default: 3)" in text
    assert "100 % by default" in text
    assert "None" not in text
    assert "SUPPRESS" not in text
