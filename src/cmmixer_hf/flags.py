"""Dataclasses of settings → command-line flags: each field is one, its `help` the line beside it."""

import argparse
import dataclasses
import typing
from typing import Any

FLAGS_ALL_THE_SAME = {"model"}  # without a default, and yet no positional arguments


def setting(default: Any, help: str, **more: Any) -> Any:
    """A field with a default and its `help`, for [`SettingsParser`]; `more` are `aliases`, `choices` and `least`."""
    return dataclasses.field(default=default, metadata={"help": help, **more})


class Settings:
    """Base of dataclasses of settings, which refuses a value below the `least` of its field with a ValueError.

    >>> @dataclasses.dataclass
    ... class Sizes(Settings):
    ...     batch: int = setting(32, "clips", least=1)
    >>> Sizes(0)
    Traceback (most recent call last):
    ValueError: batch must be at least 1, got 0
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # what derives from it is a dataclass
            least, value = field.metadata.get("least"), getattr(self, field.name)
            if None not in (least, value) and not value >= least:  # NaN is not
                raise ValueError(f"{field.name} must be at least {least}, got {value}")


class SettingsParser(argparse.ArgumentParser):
    """Reads the fields of one or more dataclasses, whose metadata have `help`, as [`setting`] gives it to them.

    Args:
        classes: the dataclasses.
        positional: fields without a default are positional arguments, one or more values where they are a list; lists
            with a default are then flags of one value that may be given several times. Otherwise every field is a flag,
            and one of a list takes any number of values.
        options: what `argparse` takes.

    >>> @dataclasses.dataclass
    ... class Settings:
    ...     source: str = dataclasses.field(metadata={"help": "folder"})
    ...     seed: int = setting(0, "of everything random")
    >>> vars(SettingsParser(Settings, positional=True).parse_args(["clips", "--seed", "3"]))
    {'source': 'clips', 'seed': 3}
    """

    def __init__(self, *classes: Any, positional: bool = False, **options: Any):
        super().__init__(allow_abbrev=False, **options)
        for settings in classes:
            types = typing.get_type_hints(settings)
            for field in dataclasses.fields(settings):
                self._add(field, types[field.name], positional)

    def _add(self, field: dataclasses.Field, hint: Any, positional: bool) -> None:
        kind, is_list, choices = value_kind(hint)
        options: dict[str, Any] = {
            "help": _help(field),
            "type": kind,
            "choices": field.metadata.get("choices", choices),
        }
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and positional and field.name not in FLAGS_ALL_THE_SAME:
            self.add_argument(field.name, nargs=field.metadata.get("nargs", "+") if is_list else None, **options)
            return
        if is_list:
            options |= {"action": "append"} if positional else {"action": "extend", "nargs": "+"}
        elif kind is bool:
            options |= {"type": _truth, "nargs": "?", "const": True, "metavar": "BOOL"}
        names = (*field.metadata.get("aliases", ()), f"--{field.name}", f"--{field.name.replace('_', '-')}")
        # What is not given is left out: the dataclass has the defaults.
        self.add_argument(*dict.fromkeys(names), required=required, default=argparse.SUPPRESS, **options)


def value_kind(hint: Any) -> tuple[Any, bool, list[Any] | None]:
    """The type of a flag's values, whether there may be several, and which there are.

    >>> value_kind(list[str]), value_kind(int | None), value_kind(typing.Literal["a", "b"])
    ((<class 'str'>, True, None), (<class 'int'>, False, None), (<class 'str'>, False, ['a', 'b']))
    """
    inner = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) is list:
        kind, _, choices = value_kind(inner[0])
        return kind, True, choices
    if typing.get_origin(hint) is typing.Literal:
        return type(inner[0]), False, inner
    return value_kind(inner[0]) if inner else (hint, False, None)


def _help(field: dataclasses.Field) -> str:
    """The help of a field, with its default where there is one."""
    default = field.default if field.default_factory is dataclasses.MISSING else None
    shown = "" if default in (None, False, dataclasses.MISSING) else f" (default: {default})"
    return (field.metadata["help"] + shown).replace("%", "%%")


def _truth(word: str) -> bool:
    if word.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise argparse.ArgumentTypeError(f"true or false, not {word!r}")
    return word.lower() in ("true", "yes", "1")
