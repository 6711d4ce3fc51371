"""Command-line flags that are derived from a dataclass of settings."""

import argparse
import dataclasses
import typing

from transformers import HfArgumentParser

REQUIRED_FLAGS = {"model"}


class SettingsParser(HfArgumentParser):
    """Flags from a dataclass; a field without a default is a positional argument, `model` apart.

    A list without a default takes one or more arguments, one with a default is a flag that may be given several times.

    >>> @dataclasses.dataclass
    ... class Settings:
    ...     source: str = dataclasses.field(metadata={"help": "folder"})
    ...     seed: int = dataclasses.field(default=0, metadata={"help": "of everything random"})
    >>> vars(SettingsParser(Settings).parse_args(["clips", "--seed", "3"]))
    {'source': 'clips', 'seed': 3}
    """

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        is_list = typing.get_origin(field.type) is list
        if required and field.name not in REQUIRED_FLAGS:
            parser.add_argument(field.name, help=field.metadata["help"], nargs="+" if is_list else None)
        elif is_list:
            parser.add_argument(f"--{field.name}", help=field.metadata["help"], action="append", default=[])
        else:
            HfArgumentParser._parse_dataclass_field(parser, field)
