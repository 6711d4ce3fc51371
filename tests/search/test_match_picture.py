import numpy as np
import pytest

from cmmixer_hf.search.index import Match
from cmmixer_hf.search.match_picture import draw_match

pytest.importorskip("matplotlib", reason="pictures need Matplotlib")
pytest.importorskip("PIL", reason="pictures need Pillow")


def match(similarity: np.ndarray, **item) -> Match:
    return Match(item, float(similarity.diagonal().mean()), tuple(map(tuple, similarity.tolist())))


def test_the_query_runs_down_and_the_item_across():
    late, early = np.zeros((2, 8, 8))
    late[0, 7] = 1  # the query's first part is in the item's last
    early[7, 0] = 1
    pictures = [np.asarray(draw_match(match(similarity, title="a"))).astype(float) for similarity in (late, early)]
    difference = (pictures[0] - pictures[1])[..., 1]  # green: bright is yellow, dark is violet
    (top, right), (bottom, left) = (np.argwhere(sign * difference > 50).mean(0) for sign in (1, -1))
    assert top < bottom
    assert left < right


@pytest.mark.parametrize("item", [{}, {"path": "/a.mp3"}, {"start": 0.0, "end": 3.0}, {"start": 30.0, "end": 60.0}])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_any_item_can_be_drawn(item, count):
    assert draw_match(match(-np.ones((count, count)), title="$x_1$ & " + 100 * "ä", **item)).size[0] > 300
