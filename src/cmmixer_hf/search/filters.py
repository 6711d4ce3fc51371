"""Filters as users write them: `genre=jazz`, `bpm=90..120`, `duration<180`."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.prepared_clips import SourceError

CONDITION = re.compile(r"(?P<key>[^=<>]+)(?P<sign><=|>=|=|<|>)(?P<value>.+)", re.DOTALL)
FORMS = "KEY=VALUE, KEY=LOW..HIGH, KEY<NUMBER, KEY<=NUMBER, KEY>NUMBER or KEY>=NUMBER"


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both among them unless they are open.

    >>> 120 in Interval(90, 120), 180 in Interval(high=180, high_open=True)
    (True, False)

    Raises:
        SourceError: it would hold no number.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise SourceError(f"no number lies between {self.low:g} and {self.high:g}: the smaller one comes first")

    def __contains__(self, number: float) -> bool:
        return bool(self.holds(np.array(number)))

    def holds(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which of the numbers lie inside, in the shape of `numbers`."""
        above = numbers > self.low if self.low_open else numbers >= self.low
        below = numbers < self.high if self.high_open else numbers <= self.high
        return above & below

    def __and__(self, other: "Interval") -> "Interval":
        """What lies in both."""
        low, low_open = max((self.low, self.low_open), (other.low, other.low_open))
        high, high_closed = min((self.high, not self.high_open), (other.high, not other.high_open))
        return Interval(low, high, low_open, not high_closed)


Conditions = dict[str, list[str | Interval]]


def parse_conditions(texts: Iterable[str]) -> Conditions:
    """Conditions by key, for `where`: of several values or ranges of one key any will do, comparisons must all hold.

    >>> parse_conditions(["mood=calm", "mood=sad", "bpm=90..120", "duration>60", "duration<180"])["mood"]
    ['calm', 'sad']

    Raises:
        SourceError: a text is no condition; the message says what would be one.
    """
    values: Conditions = {}
    bounds: dict[str, Interval] = {}
    for text in texts:
        key, sign, value = _parts(text)
        if sign == "=":
            values.setdefault(key, []).append(_range(value) or value)
        else:
            bounds[key] = bounds.get(key, Interval()) & _comparison(text, sign, value)
    if both := values.keys() & bounds.keys():
        raise SourceError(f"{min(both)} has values and comparisons: write one range, {min(both)}=LOW..HIGH")
    return values | {key: [interval] for key, interval in bounds.items()}


def _parts(text: str) -> tuple[str, str, str]:
    match = CONDITION.fullmatch(text.strip())
    if match is None or not match["key"].strip():
        raise SourceError(f"a filter is {FORMS}, got {text!r}")
    return match["key"].strip(), match["sign"], match["value"].strip()


def _comparison(text: str, sign: str, value: str) -> Interval:
    number = as_number(value)
    if number is None:
        raise SourceError(f"{sign} compares numbers, got {text!r}: write {text.partition(sign)[0]}{sign}90, say")
    if sign.startswith("<"):
        return Interval(high=number, high_open=sign == "<")
    return Interval(low=number, low_open=sign == ">")


def _range(value: str) -> Interval | None:
    """`90..120`, `90..` or `..120`; anything else, such as the title `Wait..`, is none."""
    low, dots, high = value.partition("..")
    first = as_number(low) if low else -math.inf
    last = as_number(high) if high else math.inf
    if not dots or not (low or high) or first is None or last is None:
        return None
    return Interval(first, last)


def within(text: str, values: Iterable[object]) -> bool:
    """Whether a text is a number that lies in one of the intervals among the values."""
    number = as_number(text)
    return number is not None and any(number in value for value in values if isinstance(value, Interval))


def spellings(value: object) -> list[object]:
    """A value of a filter as items may have it: a whole number with or without `.0`.

    >>> spellings("120"), spellings(90.5), spellings("007")
    (['120', '120.0'], [90.5], ['007'])
    """
    number = as_number(str(value))
    if number is None or not number.is_integer():
        return [value]
    written: list[object] = [f"{number:.0f}", f"{number:.1f}"]
    return written if str(value) in written else [value]


def as_number(text: str) -> float | None:
    """A finite number; anything else is none.

    >>> as_number("90.5"), as_number("nan"), as_number("C minor")
    (90.5, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
