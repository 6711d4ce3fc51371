"""transformers' own common tests, from the source distribution of the version that is installed.

They are not copied into this repository. `python tests/upstream.py` downloads them once by pip; where they are absent,
`tests/test_transformers_common.py` is skipped. `TRANSFORMERS_SDIST` may name an unpacked distribution instead.
"""

import importlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType
from unittest import mock

import transformers

PACKAGE = "transformers_tests"
NAME = f"transformers-{transformers.__version__}"
FOLDER = Path(os.environ.get("TRANSFORMERS_SDIST", Path(__file__).parents[1] / "build" / NAME))


def available() -> bool:
    """Whether the tests and what they import are there."""
    return (FOLDER / "tests").is_dir() and importlib.util.find_spec("parameterized") is not None


def download() -> None:
    """Fetch the source distribution and unpack its tests."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-binary", ":all:", "--no-deps", "--dest", folder]
        version = NAME.replace("-", "==")
        subprocess.run([sys.executable, "-m", "pip", "download", *options, version], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            members = [member for member in archive if member.name.startswith(f"{NAME}/tests/")]
            archive.extractall(FOLDER.parent, members, filter="data")


def load(name: str) -> ModuleType:
    """Import one of the distribution's test modules; what they import beside the distribution is replaced."""
    if PACKAGE not in sys.modules:
        package = ModuleType(PACKAGE)
        package.__path__ = [str(FOLDER / "tests")]
        sys.modules[PACKAGE] = package
        _stand_in("exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
        _stand_in("generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
        _stand_in("utils.test_configuration_utils", config_common_kwargs={"return_dict": False, "num_labels": 7})
    with mock.patch("transformers.utils.direct_transformers_import", return_value=transformers):
        return importlib.import_module(f"{PACKAGE}.{name}")


def _stand_in(name: str, **members: object) -> None:
    parent, _, _ = name.partition(".")
    for part in (parent, name):
        sys.modules.setdefault(f"{PACKAGE}.{part}", ModuleType(f"{PACKAGE}.{part}"))
    vars(sys.modules[f"{PACKAGE}.{name}"]).update(members)


if __name__ == "__main__":
    download()
