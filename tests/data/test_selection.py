import random
from collections import Counter, defaultdict

import pytest

from cmmixer_hf.data.selection import assign_splits

SHARES = [{"train": 0.8, "test": 0.2}, {"train": 0.7, "val": 0.1, "test": 0.2}, {"all": 1.0}]


def random_ties(rng):
    """Clips of random tracks and performers, some without a performer."""
    tracks, performers = rng.randint(1, 60), rng.randint(1, 40)
    return [
        [f"track {rng.randrange(tracks)}", *([f"group {rng.randrange(performers)}"] if rng.random() < 0.3 else [])]
        for _ in range(rng.randint(1, 200))
    ]


def largest_bunch(ties):
    """By another way than the code's: merge overlapping sets until none overlap."""
    bunches = [(set(clip), 1) for clip in ties]
    merged = True
    while merged:
        merged, old, bunches = False, bunches, []
        for names, count in old:
            place = next((p for p, (others, _) in enumerate(bunches) if others & names), None)
            if place is None:
                bunches.append((set(names), count))
            else:
                bunches[place] = (bunches[place][0] | names, bunches[place][1] + count)
                merged = True
    return max(count for _, count in bunches)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_leaks_and_shares_are_as_exact_as_can_be(seed):
    rng = random.Random(seed)
    ties, shares = random_ties(rng), SHARES[seed % 3]
    splits = assign_splits(ties, shares, seed=seed)
    places = defaultdict(set)
    for clip, split in zip(ties, splits, strict=True):
        for tie in clip:
            places[tie].add(split)
    assert all(len(found) == 1 for found in places.values())
    counts, wanted, slack = Counter(splits), 0.0, largest_bunch(ties) / 2
    filled = 0
    for name, share in shares.items():
        wanted, filled = wanted + share * len(ties), filled + counts[name]
        assert abs(filled - wanted) <= slack + 1e-9


def test_clips_without_ties_are_split_exactly():
    splits = assign_splits([[f"track {number}"] for number in range(10_000)], {"train": 0.8, "test": 0.2})
    assert Counter(splits) == {"train": 8000, "test": 2000}


def test_the_order_of_clips_does_not_matter_but_the_seed_does():
    ties = random_ties(random.Random(3))
    by_name = dict(zip(map(tuple, ties), assign_splits(ties, SHARES[0]), strict=True))
    turned = ties[::-1]
    assert dict(zip(map(tuple, turned), assign_splits(turned, SHARES[0]), strict=True)) == by_name
    many = [[f"track {number}"] for number in range(100)]
    assert assign_splits(many, SHARES[0], seed=1) != assign_splits(many, SHARES[0], seed=2)


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="positive and add up to 1"):
        assign_splits([["track"]], shares)
