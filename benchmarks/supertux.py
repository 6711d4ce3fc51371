"""Levels of SuperTux and the music that people chose for them, read from Debian's package `supertux-data`.

A level is an s-expression; each of its sectors names its music, backgrounds, a gradient of colours and maps of tiles.
A camera travels over the solid map from its left end to its right. Nothing of the game is in this repository.

    python benchmarks/supertux.py FOLDER    # unpacks the package (`apt-get download`) and says what is in it
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PACKAGE = "supertux-data"
GAME = "usr/share/games/supertux2"
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|;[^\n]*|[()]|[^\s()";]+')
TILE = 32  # pixels of a tile in the game's sheets
SMALL_TILE = 8  # pixels of a tile in a frame
VIEW = 15  # tiles that the camera sees, across and down
FARTHEST = 200  # tiles from the left that the camera travels at the most
FLIPPED = 0x1FFFFFFF  # bits of a tile's number that are not its orientation

Node = list[Any]


def fetch(folder: Path) -> Path:
    """Where the game's data lie below `folder`, downloaded and unpacked when they are not there.

    Raises:
        SystemExit: there is no `apt-get` that knows the package; the message says what to do.
    """
    if not (folder / GAME).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            try:
                subprocess.run(["apt-get", "download", PACKAGE], cwd=work, check=True, capture_output=True)
                (package,) = Path(work).glob("*.deb")
                subprocess.run(["dpkg", "-x", package, folder], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise SystemExit(f"no {PACKAGE} here ({error}): unpack Debian's package into {folder}") from error
    return folder / GAME


def parse(text: str) -> Node:
    """An s-expression as nested lists of words; strings lose their quotes, comments are dropped.

    >>> parse('(level (name "a b") ; no more\\n (size 3))')
    ['level', ['name', 'a b'], ['size', '3']]
    """
    stack: list[Node] = [[]]
    for token in TOKEN.findall(text):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise ValueError("a parenthesis is closed that was never opened")
            done = stack.pop()
            stack[-1].append(done)
        elif not token.startswith(";"):
            stack[-1].append(token[1:-1] if token.startswith('"') else token)
    if len(stack) != 1 or not stack[0]:
        raise ValueError("parentheses do not match")
    return stack[0][0]


def values(node: Node, *names: str) -> Node:
    """What stands behind the first of these names in a node; nothing where it has none of them."""
    for name in names:
        for child in node:
            if isinstance(child, list) and child and child[0] == name:
                return child[1:]
    return []


def children(node: Node, name: str) -> list[Node]:
    """All lists of a node that begin with a name."""
    return [child for child in node if isinstance(child, list) and child and child[0] == name]


def first_word(node: Node) -> str:
    """The first word of a node or of the lists in it; empty where there is none."""
    return next((child if isinstance(child, str) else first_word(child) for child in node), "")


@dataclass(frozen=True)
class Sector:
    """One sector of a level: what is seen in it and which track plays."""

    name: str
    track: Path
    node: Node
    game: "Game"

    @cached_property
    def maps(self) -> list[tuple[float, np.ndarray, bool]]:
        """Depth, tiles (height, width) and whether one stands on them, far ones first."""
        found = []
        for node in children(self.node, "tilemap"):
            width, height = (int(first_word(values(node, name)) or 0) for name in ("width", "height"))
            tiles = [int(word) & FLIPPED for word in values(node, "tiles") if word.lstrip("-").isdigit()]
            if len(tiles) == width * height and width >= VIEW:
                depth = float(first_word(values(node, "z-pos", "layer")) or 0)
                solid = first_word(values(node, "solid")) == "#t"
                found.append((depth, np.array(tiles).reshape(height, width), solid))
        return sorted(found, key=lambda layer: layer[0])

    @property
    def ground(self) -> np.ndarray | None:
        """The solid map, over which the camera travels."""
        return next((tiles for _, tiles, solid in self.maps if solid), None)

    def frames(self, places: np.ndarray, size: int) -> np.ndarray:
        """Views at places in [0, 1] of the way: (places, size, size, 3) uint8."""
        return np.stack([self._view(float(place), size) for place in places])

    def _view(self, place: float, size: int) -> np.ndarray:
        ground = self.ground
        if ground is None:
            raise ValueError(f"{self.name} has no solid map")
        left = int(place * max(0, min(ground.shape[1], FARTHEST) - VIEW - 1))
        filled = np.flatnonzero(ground[:, left : left + VIEW].any(1))
        lowest = int(filled.max()) if len(filled) else len(ground)
        top = int(np.clip(lowest - VIEW + 2, 0, max(0, len(ground) - VIEW)))
        canvas = self._backdrop(left)
        for _, tiles, _ in self.maps:
            for (down, across), number in np.ndenumerate(tiles[top : top + VIEW, left : left + VIEW]):
                if tile := self.game.tile(int(number)):
                    canvas.alpha_composite(tile, (across * SMALL_TILE, down * SMALL_TILE))
        return np.asarray(canvas.convert("RGB").resize((size, size)))

    def _backdrop(self, left: int) -> Image.Image:
        """Gradient and background pictures; these move half as fast as the ground."""
        side = VIEW * SMALL_TILE
        canvas = Image.new("RGBA", (side, side), "black")
        if gradient := children(self.node, "gradient"):
            top, bottom = (values(gradient[0], name)[:3] for name in ("top_color", "bottom_color"))
            if len(top) == len(bottom) == 3:
                share = np.linspace(0, 1, side)[:, None]
                column = 255 * (share * np.array(bottom, float) + (1 - share) * np.array(top, float))
                pixels = np.repeat(column.clip(0, 255).astype(np.uint8)[:, None], side, axis=1)
                canvas = Image.fromarray(pixels).convert("RGBA")
        for node in children(self.node, "background"):
            picture = self.game.picture(first_word(values(node, "image")))
            if picture:
                wide, shift = picture.resize((side * 4 // 3, side)), 2 * left % (side // 3)
                canvas.alpha_composite(wide.crop((shift, 0, shift + side, side)))
        return canvas


class Game:
    """The pictures, tiles and levels of an unpacked game."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.tile = lru_cache(None)(self._tile)
        self.picture = lru_cache(None)(self._picture)

    def sectors(self) -> Iterator[Sector]:
        """Every sector that has a solid map and whose music is a file of the game, in the order of their names."""
        for path in sorted((self.folder / "levels").rglob("*.stl")):
            try:
                level = parse(path.read_text(encoding="utf-8", errors="replace"))
            except ValueError:
                continue  # a few levels are unfinished
            for number, node in enumerate(children(level, "sector")):
                track = self._track(first_word(values(node, "music")), values(node, "music"))
                name = f"{path.relative_to(self.folder).as_posix()}:{number}"
                if track and (sector := Sector(name, track, node, self)).ground is not None:
                    yield sector

    def _track(self, word: str, node: Node) -> Path | None:
        name = first_word(values(node, "file")) or word
        path = self.folder / name.lstrip("/") if name else None
        if path and path.suffix == ".music" and path.is_file():
            file = re.search(r'\(file\s+"([^"]+)"', path.read_text(encoding="utf-8", errors="replace"))
            path = path.parent / file.group(1) if file else None
        return path.resolve() if path and path.is_file() else None

    @cached_property
    def _places(self) -> Mapping[int, tuple[str, int, int]]:
        """Sheet and corner of every tile, by its number."""
        found: dict[int, tuple[str, int, int]] = {}
        for node in parse((self.folder / "images/tiles.strf").read_text(encoding="utf-8", errors="replace"))[1:]:
            sheet = values(node, "images", "image", "editor-images")
            if sheet and node[0] == "tiles":
                width, numbers = int(values(node, "width")[0]), values(node, "ids")
                name = next(word for word in _words(sheet) if word != "region")
                for place, number in enumerate(map(int, numbers)):
                    found[number] = (name, place % width * TILE, place // width * TILE)
            elif sheet and node[0] == "tile":
                number, region = int(values(node, "id")[0]), sheet[0]
                if isinstance(region, str):
                    found[number] = (region, 0, 0)
                elif region[0] == "region":
                    found[number] = (region[1], int(float(region[2])), int(float(region[3])))
        return found

    def _tile(self, number: int) -> Image.Image | None:
        name, left, top = self._places.get(number, ("", 0, 0))
        sheet = self.picture(name) if number and name else None
        if sheet is None:
            return None
        return sheet.crop((left, top, left + TILE, top + TILE)).resize((SMALL_TILE, SMALL_TILE))

    def _picture(self, name: str) -> Image.Image | None:
        for path in (self.folder / name.lstrip("/"), self.folder / "images" / name.lstrip("/")):
            if name and path.is_file():
                return Image.open(path).convert("RGBA")
        return None


def _words(node: Node) -> Iterator[str]:
    for child in node:
        yield from [child] if isinstance(child, str) else _words(child)


def main() -> None:
    """Say how many sectors and tracks there are."""
    sectors = list(Game(fetch(Path(sys.argv[1]))).sectors())
    levels = {sector.name.rpartition(":")[0] for sector in sectors}
    print(f"{len(levels)} levels, {len(sectors)} sectors with music, {len({s.track for s in sectors})} tracks")


if __name__ == "__main__":
    main()
