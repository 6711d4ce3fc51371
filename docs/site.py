"""Hooks of the site: the repository's own pages become pages of it, with their links and pictures."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Page of the site: file of the repository.
PAGES = {
    "index.md": "README.md",
    "examples.md": "examples/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "card.md": "checkpoints/cmmixer-small-yardstick/README.md",
}
SITES = {path: page for page, path in PAGES.items()}
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's pages, and the pictures that they show."""
    for page, path in PAGES.items():
        source = ROOT / path
        text = re.sub(r"\A---\n.*?\n---\n", "", source.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in set(LINK.findall(text)):
            target = (source.parent / link).resolve().relative_to(ROOT).as_posix()
            text = re.sub(rf"(?<=\]\(){re.escape(link)}(?=[)#])", SITES.get(target, target), text)
            if target not in SITES and files.get_file_from_path(target) is None:
                files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
        files.append(File.generated(config, page, content=text))
    return files
