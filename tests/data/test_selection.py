import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from cmmixer_hf.data.clips import ClipSpec
from cmmixer_hf.data.selection import assign_splits, select_clips

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


def labelled(**counts) -> list[ClipSpec]:
    names = [(label, number) for label, count in counts.items() for number in range(count)]
    return [ClipSpec(f"{label}{number}", "t", video="x", labels=(label,)) for label, number in names]


def test_a_selection_is_even_over_labels_as_far_as_they_go():
    clips = labelled(common=900, usual=90, rare=10)
    counts = Counter(clip.labels[0] for clip in select_clips(clips, 60))
    assert counts == {"common": 25, "usual": 25, "rare": 10}
    counts = Counter(clip.labels[0] for clip in select_clips(clips, 0.3))
    assert counts == {"common": 200, "usual": 90, "rare": 10}
    assert select_clips(clips, 5000) == select_clips(clips, 1.0) == clips


def test_a_selection_is_the_same_for_a_seed_and_in_order():
    clips = labelled(a=50, b=50)
    first, again, other = (select_clips(clips, 20, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first == [clip for clip in clips if clip in first]


def test_splits_give_their_part_and_the_rarest_of_several_labels_counts():
    train = [replace(clip, split="train") for clip in labelled(a=80, b=20)]
    test = [
        ClipSpec(f"t{number}", "t", video="x", labels=("all", f"l{number % 2}"), split="test") for number in range(20)
    ]
    chosen = select_clips([*train, *test], 0.2)
    assert Counter(clip.split for clip in chosen) == {"train": 20, "test": 4}
    assert Counter(clip.labels[1] for clip in chosen if clip.split == "test") == {"l0": 2, "l1": 2}


def test_only_clips_that_suit_are_taken_and_few_are_asked():
    asked = []

    def suits(clips):
        for clip in clips:
            asked.append(clip)
            yield int(clip.clip_id[1:]) % 2 == 0

    chosen = select_clips(labelled(a=1000, b=1000), 50, suits=suits)
    assert len(chosen) == 50
    assert all(int(clip.clip_id[1:]) % 2 == 0 for clip in chosen)
    assert len(asked) < 200
