"""`cmmixer VERB …`: each verb is a dataclass of settings and a function; flags are derived from the dataclass.

A verb's file is imported when the verb is asked for, so that help comes at once.
"""

import argparse
import dataclasses
import errno
import sys
import typing
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from . import __version__

# Verb: file, its settings, its function, and what it is for.
VERBS: dict[str, tuple[str, str, str, str]] = {
    "demo": ("demo.run", "DemoSettings", "run_demo", "see everything work in minutes, from made clips to a report"),
    "prepare": ("data.preparation", "PrepareSettings", "prepare_source", "decode a folder of clips once, to train on"),
    "prepare-ray": ("data.prepare_ray", "RayPrepareSettings", "prepare_source_on_ray", "the same on a Ray cluster"),
    "evaluate": ("evaluation.command", "EvaluateSettings", "evaluate", "score a model on prepared clips"),
    "index": ("search.indexing", "IndexSettings", "build_index", "embed a library of tracks or clips"),
    "search": ("search.searcher", "SearchSettings", "search", "rank the items of an index for a video or a track"),
    "card": ("hub.cards", "CardSettings", "write_card", "write the README of a model or of prepared clips"),
    "doctor": ("doctor", "DoctorSettings", "run_doctor", "check that everything here works"),
    "convert": ("hub.conversion", "ConvertSettings", "convert", "start from weights that somebody else trained"),
}
# File and name of errors that the user can mend, beside ImportError and OSError.
MENDABLE = (
    ("data.prepared_clips", "SourceError"),
    ("search.index_facts", "DamagedIndexError"),
    ("search.index_facts", "ModelMismatchError"),
    ("search.index", "UnknownKeyError"),
    ("media.opening", "MediaError"),
    ("training.log", "TrainingDivergedError"),
)
REQUIRED_FLAGS = {"model"}  # without a default, and yet no positional arguments
STOPPED = 130  # what a shell reports after Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its status, 0 where it has none; 1 after an error that can be mended, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = _overview().parse_args(words[:1]).verb
    try:
        answer = _run(verb, words[1:])
        return answer if isinstance(answer, int) else 0
    except KeyboardInterrupt:
        print("\ncmmixer: stopped; the same command goes on with what is finished", file=sys.stderr)
        return STOPPED
    except _mendable() as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        message = " ".join(str(error).split())  # libraries' messages have several lines
        print(f"cmmixer: {message}{': free some space, or write elsewhere' if full else ''}", file=sys.stderr)
        return 1


def _overview() -> argparse.ArgumentParser:
    """Knows the verbs alone; their flags are read by a parser of their own."""
    parser = argparse.ArgumentParser("cmmixer", description="Video-audio retrieval with CMMixer (arXiv 2308.13820).")
    parser.add_argument("--version", action="version", version=f"cmmixer {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (*_, about) in VERBS.items():
        verbs.add_parser(name, help=about, add_help=False)
    return parser


def _run(verb: str, words: Sequence[str]) -> Any:
    """Read a verb's flags and call its function, without the bars and warnings of libraries between its lines."""
    import datasets
    from transformers.utils import logging

    pass

    file, settings_name, function, _ = VERBS[verb]
    module = import_module(f".{file}", __package__)
    settings_class = getattr(module, settings_name)
    settings = settings_class(**vars(_flags(verb, settings_class).parse_args(words)))
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    return getattr(module, function)(settings)


def _flags(verb: str, settings: Any) -> argparse.ArgumentParser:
    """A flag for every field; one without a default is a positional argument, `model` apart."""
    parser = argparse.ArgumentParser(f"cmmixer {verb}", description=settings.__doc__)
    types = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        _add_flag(parser, field, types[field.name])
    return parser


def _add_flag(parser: argparse.ArgumentParser, field: dataclasses.Field, hint: Any) -> None:
    """A list without a default takes one or more values, one with a default is a flag to be given several times."""
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    kind, is_list, choices = _kind(hint)
    options: dict[str, Any] = {"help": field.metadata["help"], "type": kind, "choices": choices}
    if required and field.name not in REQUIRED_FLAGS:
        parser.add_argument(field.name, nargs="+" if is_list else None, **options)
        return
    aliases = field.metadata.get("aliases", ())
    names = dict.fromkeys((f"--{field.name}", f"--{field.name.replace('_', '-')}", *aliases))
    if is_list:
        parser.add_argument(*names, action="append", default=[], **options)
    elif kind is bool:
        options |= {"type": _truth, "nargs": "?", "const": True, "metavar": "BOOL"}
        parser.add_argument(*names, default=field.default, **options)
    else:
        parser.add_argument(*names, required=required, default=None if required else field.default, **options)


def _kind(hint: Any) -> tuple[Any, bool, list[Any] | None]:
    """The type of a flag's values, whether there may be several, and which there are.

    >>> _kind(list[str]), _kind(int | None), _kind(typing.Literal["a", "b"])
    ((<class 'str'>, True, None), (<class 'int'>, False, None), (<class 'str'>, False, ['a', 'b']))
    """
    inner = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) is list:
        return inner[0], True, None
    if typing.get_origin(hint) is typing.Literal:
        return type(inner[0]), False, inner
    return _kind(inner[0]) if inner else (hint, False, None)


def _truth(word: str) -> bool:
    if word.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise argparse.ArgumentTypeError(f"true or false, not {word!r}")
    return word.lower() in ("true", "yes", "1")


def _mendable() -> tuple[type[Exception], ...]:
    """Errors whose message tells the user what to do; those of files that were not imported were not raised."""
    files = ((sys.modules.get(f"{__package__}.{file}"), name) for file, name in MENDABLE)
    return (*(getattr(file, name) for file, name in files if file), ImportError, OSError)


if __name__ == "__main__":
    sys.exit(main())
