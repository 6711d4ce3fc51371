"""`cmmixer VERB …`: each verb is a dataclass of settings and a function; flags are derived from the dataclass."""

import argparse
import dataclasses
import errno
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

import datasets
from transformers import HfArgumentParser
from transformers.utils import logging

from . import __version__
from .convert import ConvertSettings, convert
from .data import SourceError
from .demo import DemoSettings, run_demo
from .index import DamagedIndexError, ModelMismatchError
from .indexing import IndexSettings, build_index
from .media import MediaError
from .prepare import PrepareSettings, prepare_source
from .prepare_ray import RayPrepareSettings, prepare_source_on_ray
from .scoring import EvaluateSettings, evaluate
from .search import SearchSettings, search
from .training import TrainingDivergedError

VERBS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "demo": (DemoSettings, run_demo),
    "prepare": (PrepareSettings, prepare_source),
    "prepare-ray": (RayPrepareSettings, prepare_source_on_ray),
    "evaluate": (EvaluateSettings, evaluate),
    "index": (IndexSettings, build_index),
    "search": (SearchSettings, search),
    "convert": (ConvertSettings, convert),
}
REQUIRED_FLAGS = {"model"}
STOPPED = 130  # what a shell reports after Ctrl-C


class SettingsParser(HfArgumentParser):
    """Flags from a dataclass; a field without a default is a positional argument, `model` apart.

    A list without a default takes one or more arguments, one with a default is a flag that may be given several times.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0, 1 after an error that the user can mend, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser("cmmixer", description="Video-audio retrieval with CMMixer (arXiv 2308.13820).")
    parser.add_argument("--version", action="version", version=f"cmmixer {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=SettingsParser)
    for name, (settings_class, _) in VERBS.items():
        about = settings_class.__doc__
        verbs.add_parser(name, help=about, description=about, dataclass_types=settings_class)
    chosen = vars(parser.parse_args(arguments))
    settings_class, run = VERBS[chosen.pop("verb")]
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        run(settings_class(**chosen))
    except KeyboardInterrupt:
        print("\ncmmixer: stopped; the same command goes on with what is finished", file=sys.stderr)
        return STOPPED
    except (
        SourceError,
        MediaError,
        DamagedIndexError,
        ModelMismatchError,
        TrainingDivergedError,
        ImportError,
        OSError,
    ) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        print(f"cmmixer: {error}{': free some space, or write elsewhere' if full else ''}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
