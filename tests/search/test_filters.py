import numpy as np
import pytest

from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.search.filters import Interval, parse_conditions


@pytest.mark.parametrize(
    ("texts", "conditions"),
    [
        (["genre=jazz", "genre=folk", "mood=calm"], {"genre": ["jazz", "folk"], "mood": ["calm"]}),
        (["title=Ode, to Joy = 9th"], {"title": ["Ode, to Joy = 9th"]}),
        (["title=Wait..", "key=.."], {"title": ["Wait.."], "key": [".."]}),
        (["bpm=90..120", "bpm=180"], {"bpm": [Interval(90, 120), "180"]}),
        (["bpm=90..", "loudness=..-14.5"], {"bpm": [Interval(low=90)], "loudness": [Interval(high=-14.5)]}),
        (["duration < 180"], {"duration": [Interval(high=180, high_open=True)]}),
        (["duration<=180", "duration>60", "duration<200"], {"duration": [Interval(60, 180, low_open=True)]}),
        (["bpm>=90", "bpm>90"], {"bpm": [Interval(low=90, low_open=True)]}),
    ],
)
def test_conditions_read_as_written(texts, conditions):
    assert parse_conditions(texts) == conditions


@pytest.mark.parametrize(
    ("text", "message"),
    [("mood", "got 'mood'"), ("=calm", "a filter is KEY=VALUE"), ("mood=", "got 'mood='"), ("bpm<fast", "bpm<90, say")],
)
def test_what_is_no_condition_says_what_would_be(text, message):
    with pytest.raises(SourceError, match=message):
        parse_conditions([text])


def test_values_and_comparisons_of_one_key_are_refused():
    with pytest.raises(SourceError, match=r"bpm=LOW\.\.HIGH"):
        parse_conditions(["bpm=90", "bpm<100"])


@pytest.mark.parametrize("texts", [["bpm=120..90"], ["bpm>120", "bpm<90"]])
def test_a_range_that_holds_nothing_is_refused(texts):
    with pytest.raises(SourceError, match="no number lies between 120 and 90: the smaller one comes first"):
        parse_conditions(texts)


def test_an_interval_holds_its_closed_ends_alone():
    numbers = np.array([89.9, 90, 100, 120, 120.1, np.nan])
    assert Interval(90, 120).holds(numbers).tolist() == [False, True, True, True, False, False]
    assert Interval(90, 120, True, True).holds(numbers).tolist() == [False, False, True, False, False, False]
