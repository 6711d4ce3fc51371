"""`cmmixer VERB …`: each verb is a dataclass of settings and a function; flags are derived from the dataclass.

A verb's work is imported when its settings have been read, so that help and mistakes are answered at once.
"""

import argparse
import errno
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from . import __version__, settings
from .flags import SettingsParser

# Verb: its settings, its function, and what it is for.
VERBS = {
    "demo": ("DemoSettings", "demo.run.run_demo", "see everything work in minutes, from made clips to a report"),
    "prepare": ("PrepareSettings", "data.preparation.prepare_source", "decode a folder of clips once, to train on"),
    "prepare-ray": ("RayPrepareSettings", "data.prepare_ray.prepare_source_on_ray", "the same on a Ray cluster"),
    "evaluate": ("EvaluateSettings", "evaluation.command.evaluate", "score a model on prepared clips"),
    "index": ("IndexSettings", "search.indexing.build_index", "embed a library of tracks or clips"),
    "search": ("SearchSettings", "search.command.search", "rank the items of an index for a video or a track"),
    "fit": ("FitSettings", "search.fit.fit", "lay what was found under a clip"),
    "page": ("PageSettings", "page.serving.serve", "search in a browser, or from programs"),
    "card": ("CardSettings", "training.model_card.write_card", "write the README of a model or of prepared clips"),
    "doctor": ("DoctorSettings", "doctor.run_doctor", "check that everything here works"),
    "convert": ("ConvertSettings", "hub.conversion.convert", "start from weights that somebody else trained"),
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
# Bars and warnings of libraries, which would stand between a verb's own lines, are off unless the user wants them.
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
STOPPED = 130  # what a shell reports after Ctrl-C
GRACE = 1.5  # seconds in which a verb may save what is finished


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its status, 0 where it has none; 1 after an error that can be mended, 130 after Ctrl-C."""
    if arguments is None:
        _end_soon_after_ctrl_c()
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = _overview().parse_args(words[:1]).verb
    try:
        answer = _run(verb, words[1:])
        return answer if isinstance(answer, int) else 0
    except KeyboardInterrupt:
        print("\ncmmixer: stopped; the same command goes on with what is finished", file=sys.stderr, flush=True)
        if arguments is None:
            os._exit(STOPPED)  # libraries take seconds to shut down
        return STOPPED
    except _mendable() as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        message = " ".join(str(error).split())  # libraries' messages have several lines
        if progress := sys.modules.get(f"{__package__}.progress"):
            progress.close_bars()
        print(f"cmmixer: {message}{': free some space, or write elsewhere' if full else ''}", file=sys.stderr)
        return 1


def _end_soon_after_ctrl_c() -> None:
    """End this process soon after Ctrl-C whatever threads and native code still do; every file is whole or absent."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno())

    def wait(keep_open: socket.socket) -> None:
        while signal.SIGINT not in receiver.recv(64):
            pass
        time.sleep(GRACE)
        os._exit(STOPPED)

    threading.Thread(target=wait, args=[sender], daemon=True).start()


def _overview() -> argparse.ArgumentParser:
    """A parser of the verb alone; the flags of each verb have a parser of their own."""
    parser = argparse.ArgumentParser("cmmixer", description="Video-audio retrieval with CMMixer (arXiv 2308.13820).")
    parser.add_argument("--version", action="version", version=f"cmmixer {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (*_, about) in VERBS.items():
        verbs.add_parser(name, help=about, add_help=False)
    return parser


def _run(verb: str, words: Sequence[str]) -> Any:
    """Read a verb's flags, import what does its work, and call it."""
    settings_name, function, _ = VERBS[verb]
    settings_class = getattr(settings, settings_name)
    parser = SettingsParser(settings_class, positional=True, prog=f"cmmixer {verb}", description=settings_class.__doc__)
    flags = vars(parser.parse_args(words))
    try:
        given = settings_class(**flags)
    except ValueError as error:
        parser.error(str(error))
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    file, _, name = function.rpartition(".")
    return getattr(import_module(f".{file}", __package__), name)(given)


def _mendable() -> tuple[type[Exception], ...]:
    """Errors whose message tells the user what to do; those of files that were not imported were not raised."""
    files = ((sys.modules.get(f"{__package__}.{file}"), name) for file, name in MENDABLE)
    return (*(getattr(file, name) for file, name in files if file), ImportError, OSError)


if __name__ == "__main__":
    sys.exit(main())
