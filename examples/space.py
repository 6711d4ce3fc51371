"""A Space's folder: a page on the Hub where others search your library with a model of yours.

    python examples/space.py --library FOLDER --model checkpoints/cmmixer-small-yardstick --output runs/space
    hf upload you/music runs/space --repo-type space

The page is that of `cmmixer page`; it indexes the library when the Space starts, so keep that to a few hundred files,
and to files that you may show.
"""

import shutil
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from cmmixer_hf.files import atomic_directory
from cmmixer_hf.training import read_settings

APP = '''"""The Space: index the library once, then serve the page."""

from cmmixer_hf.page import PageSettings, serve
from cmmixer_hf.search import IndexSettings, build_index

build_index(IndexSettings("library", "index", "model"))
serve(PageSettings(music="index", host="0.0.0.0"))
'''
README = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
license: apache-2.0
---

# {title}

Drop a clip in and hear which tracks of `library/` fit it. The model lies in `model/`, with its card.
"""


@dataclass
class SpaceSettings:
    """What the Space shows, and where its folder goes."""

    library: str = field(metadata={"help": "folder of tracks or clips to search among"})
    model: str = field(metadata={"help": "folder of a retriever, saved with its processor"})
    output: str = field(default="runs/space", metadata={"help": "folder of the Space; replaced if it is there"})
    title: str = field(default="Music for a clip", metadata={"help": "of the page"})
    package: str = field(
        default="cmmixer_hf[app]", metadata={"help": "line of requirements.txt; `cmmixer_hf[app] @ git+ADDRESS` works"}
    )


def main() -> None:
    """Model, library, requirements and the header that the Hub reads."""
    settings = read_settings(SpaceSettings)
    with atomic_directory(settings.output) as folder:
        folder = Path(folder)
        shutil.copytree(
            settings.model, folder / "model", ignore=shutil.ignore_patterns("pretraining", "index", "clips")
        )
        shutil.copytree(settings.library, folder / "library")
        (folder / "app.py").write_text(APP)
        (folder / "requirements.txt").write_text(f"{settings.package}\n")
        (folder / "README.md").write_text(README.format(title=settings.title, gradio=version("gradio")))
    print(f"{settings.output}: hf upload YOU/NAME {settings.output} --repo-type space")


if __name__ == "__main__":
    main()
