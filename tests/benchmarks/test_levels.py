"""SuperTux's levels: how they are read, and that what is held out is held out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn", reason="the benchmark needs scikit-learn")

from levels import DIRECTIONS, RIVAL, hold_out, read_results, table
from supertux import Game, parse

LEVEL = """
(supertux-level (name (_ "A level")) ; a comment (
  (sector
    (music (file "music/{track}.music"))
    (gradient (top_color 0 0 1) (bottom_color 0 0 1))
    (tilemap (solid #t) (z-pos 0) (width 30) (height 15) (tiles {tiles}))))
"""
SOLID = "0 " * 30 * 14 + "1 " * 30


@pytest.fixture
def game(tmp_path) -> Game:
    """Eight levels with four tracks of three tunes, and one that is unfinished; a red tile under a blue sky."""
    for folder in ("images/tiles", "music", "levels/world"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "images/tiles/red.png")
    (tmp_path / "images/tiles.strf").write_text('(supertux-tiles (tile (id 1) (images "tiles/red.png")))')
    for number, track in enumerate(("ice", "forest", "forest2", "cave") * 2):
        (tmp_path / f"music/{track}.music").write_text(f'(supertux-music (file "{track}.ogg"))')
        (tmp_path / f"music/{track}.ogg").touch()
        (tmp_path / f"levels/world/{number}.stl").write_text(LEVEL.format(track=track, tiles=SOLID))
    (tmp_path / "levels/world/unfinished.stl").write_text("(supertux-level (sector")
    return Game(tmp_path)


def test_sectors_have_their_track_and_are_drawn(game):
    sectors = list(game.sectors())
    assert [sector.track.stem for sector in sectors] == ["ice", "forest", "forest2", "cave"] * 2
    frames = sectors[0].frames(np.linspace(0, 1, 3), 60)
    assert frames.shape == (3, 60, 60, 3)
    assert (frames[:, 5] == (0, 0, 255)).all()  # sky
    assert (frames[:, 57, 5:-5] == (255, 0, 0)).all()  # the ground, two tiles above the lower edge


def test_parentheses_must_match():
    for text in ("(a (b)", "a)", ""):
        with pytest.raises(ValueError, match="parenthes"):
            parse(text)


def test_nothing_held_out_is_trained_on(game):
    sectors = list(game.sectors())
    for seed in range(5):
        training, test = hold_out(sectors, "levels", seed)
        assert not {sector.name for sector in training} & {sector.name for sector in test}
        assert {sector.track for sector in test} <= {sector.track for sector in training}
        training, test = hold_out(sectors, "tracks", seed)
        tunes = [{sector.track.stem.rstrip("2") for sector in part} for part in (training, test)]
        assert test
        assert not tunes[0] & tunes[1]


def test_the_table_has_a_row_an_arm_and_split_and_what_it_gains():
    both = {"CCA on statistics": {"R@1": 50.0, "R@10": 90.0}, RIVAL: {"R@1": 40.0, "R@10": 80.0}}
    arms = {arm: {key: found for key in (*DIRECTIONS, "chance")} for arm, found in both.items()}
    results = [
        {"split": "tracks", "arm": arm, "seed": seed, "scores": found} for arm, found in arms.items() for seed in (0, 1)
    ]
    rows = [line.strip("| ").split(" | ") for line in table(results).splitlines()[2:]]
    assert [row[:3] for row in rows] == [["tracks", arm, "2"] for arm in arms]
    assert rows[0][3:] == ["50.0 ± 0.0"] * 2 + ["90.0 ± 0.0"] * 2 + ["50.0", "90.0", "10.0 ± 0.0"]


def test_the_recorded_table_is_in_the_documents():
    folder = Path(__file__).parents[2] / "benchmarks"
    assert table(read_results(folder / "results" / "levels")) in (folder / "README.md").read_text()


def test_what_is_said_of_the_released_checkpoint_is_what_its_cells_say():
    folder = Path(__file__).parents[2] / "benchmarks"
    rows = table(read_results(folder / "results" / "levels-released")).splitlines()
    row = next(row for row in rows if row.startswith("| levels | checkpoint, fine-tuned | 3 |"))
    gain = row.strip("| ").rpartition(" | ")[2]
    assert gain.startswith("-")
    assert f"in 96 %, loses {gain[1:]}: what it learned there" in " ".join((folder / "README.md").read_text().split())
