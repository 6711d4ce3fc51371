"""Real media: levels of SuperTux and the music that people chose for them. Does anything learned help, and whom?

    python benchmarks/levels.py                    # downloads Debian's `supertux-data`, trains what is missing
    python benchmarks/levels.py --table benchmarks/results/levels        # prints the table of what is there

Two ways to hold out. `levels`: pictures of levels that no model saw, with tracks that it knows, in excerpts it has not
heard. `tracks`: tunes that it never heard, all variants of a tune together. Every arm has the same clips; those that
train spend the same epochs. One third of all levels plays one track, so guessing the most frequent one is a row, too.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims import show
from datasets import Dataset
from places import OtherClips, ShiftedPlaces, WithoutMeans
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from supertux import Game, Sector, fetch
from transformers import set_seed

from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining, CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.data import StackMaker, collate_clips, raw_row
from cmmixer_hf.evaluation import DIRECTIONS, ClipEmbeddings, embed_clips, rank_clips
from cmmixer_hf.files import atomic_directory, atomic_file
from cmmixer_hf.media import Sampling, clip_sampling, probe, read_windows, segment_midpoints
from cmmixer_hf.models.baselines import FrozenFeatures, MVPtForRetrieval, colour_statistics, mel_statistics
from cmmixer_hf.training import TrainingSettings, read_settings, train

EXCERPT = 8.0  # seconds of a track that go with a level
CLIPS_PER_SECTOR = 3  # camera trips, each with an excerpt of its own
HELD_OUT = 0.25  # share of levels, or of tunes
COMPONENTS, CORRELATED = 24, 6  # of each modality's statistics, and pairs that CCA keeps
SPLITS = ("levels", "tracks")
METRICS = ("R@1", "R@10")
RIVAL = "random weights, fine-tuned"  # what pre-training, of whatever kind, must be better than


@dataclass
class LevelSettings:
    """What to run."""

    data: str = field(default="runs/supertux", metadata={"help": "folder with the unpacked package, or for it"})
    output: str = field(default="runs/levels", metadata={"help": "folder for results and what they share"})
    checkpoint: str = field(
        default="checkpoints/cmmixer-small-yardstick", metadata={"help": "retriever whose sizes and weights are used"}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "of splits, weights and order"})
    epochs: int = field(default=20, metadata={"help": "of fine-tuning, for every arm that trains"})
    pretraining_epochs: int = field(default=20, metadata={"help": "of the arm that pre-trains on unpaired media"})
    table: str | None = field(default=None, metadata={"help": "print the table of this folder's results instead"})


@dataclass(frozen=True)
class Split:
    """Clips to train on and clips to ask for, as rows of prepared shards."""

    training: Dataset
    test: Dataset


Arm = Callable[["Trial"], ClipEmbeddings]


@dataclass(frozen=True)
class Trial:
    """One split of one seed, and what every arm needs of it."""

    split: Split
    seed: int
    settings: LevelSettings
    folder: Path

    @property
    def processor(self) -> CMMixerProcessor:
        """Makes the stacks, as the checkpoint takes them."""
        return CMMixerProcessor.from_pretrained(self.settings.checkpoint)

    def finetune(self, model: Any, name: str) -> ClipEmbeddings:
        """Train a retriever on the pairs, and embed the clips held out."""
        self.train(model, self.split.training, name, self.settings.epochs)
        return embed_clips(model, self.split.test, self.processor.feature_extractor, progress=False)

    def train(self, model: Any, clips: Dataset, name: str, epochs: int) -> None:
        """The same recipe for all."""
        settings = TrainingSettings(
            output_dir=str(self.folder / name),
            seed=self.seed,
            epochs=epochs,
            warmup_epochs=epochs / 10,
            learning_rate=5e-4,
            save_steps=0,
        )
        train(model, clips, self.processor.feature_extractor, settings, progress=False)


def correlate(trial: Trial) -> ClipEmbeddings:
    """CCA on colours and mel statistics, trained on the same pairs."""
    training, test = (_statistics(clips, trial.processor) for clips in (trial.split.training, trial.split.test))
    whiteners = {name: _Whitened(features) for name, features in training.items()}
    cca = CCA(n_components=CORRELATED, max_iter=2000)
    cca.fit(*_both(whiteners, training))
    found = cca.transform(*_both(whiteners, test))
    segments = [torch.nn.functional.normalize(torch.tensor(part).float(), dim=-1)[:, None] for part in found]
    return ClipEmbeddings(*segments, tracks=tuple(trial.split.test["track_id"]))


def guess_frequent(trial: Trial) -> ClipEmbeddings:
    """Every query asks for the track that most levels have; what it never met counts nothing."""
    counts = Counter(trial.split.training["track_id"])
    share = torch.tensor([counts[track] for track in trial.split.test["track_id"]]).float() / counts.total()
    query = torch.tensor([1.0, 0.0]).expand(len(share), 1, 2)
    candidates = torch.stack([share, (1 - share.square()).sqrt()], -1)[:, None]
    return ClipEmbeddings(query, candidates, tracks=tuple(trial.split.test["track_id"]))


def untrained(trial: Trial) -> ClipEmbeddings:
    """The checkpoint as it is, which never saw a level."""
    model = CMMixerForRetrieval.from_pretrained(trial.settings.checkpoint)
    return embed_clips(model, trial.split.test, trial.processor.feature_extractor, progress=False)


def from_random(trial: Trial) -> ClipEmbeddings:
    """Random weights of the checkpoint's sizes, fine-tuned."""
    return trial.finetune(CMMixerForRetrieval(CMMixerConfig.from_pretrained(trial.settings.checkpoint)), "random")


def from_checkpoint(trial: Trial) -> ClipEmbeddings:
    """The released retriever, fine-tuned."""
    return trial.finetune(CMMixerForRetrieval.from_pretrained(trial.settings.checkpoint), "checkpoint")


def from_unpaired(trial: Trial) -> ClipEmbeddings:
    """Solo + CutMix on the training levels' frames, each with the sound of another level, then fine-tuned."""
    config = CMMixerConfig.from_pretrained(trial.settings.checkpoint)
    model, clips = CMMixerForPreTraining(config), trial.split.training
    order = np.random.default_rng(trial.seed).permutation(len(clips))
    strangers = clips.remove_columns("waveforms").add_column("waveforms", clips.select(order)["waveforms"])
    trial.train(model, strangers, "pretraining", trial.settings.pretraining_epochs)
    return trial.finetune(CMMixerForRetrieval.from_encoder_pretrained(str(trial.folder / "pretraining")), "unpaired")


def with_other_clips(trial: Trial) -> ClipEmbeddings:
    """The released retriever, fine-tuned without a clip's own negatives."""
    return trial.finetune(OtherClips.from_pretrained(trial.settings.checkpoint), "other-clips")


def with_shifted_places(trial: Trial) -> ClipEmbeddings:
    """The released retriever, fine-tuned with segments in one another's places."""
    return trial.finetune(ShiftedPlaces.from_pretrained(trial.settings.checkpoint), "shifted")


def without_means(trial: Trial) -> ClipEmbeddings:
    """The released retriever, fine-tuned; then the mean of each place is taken away."""
    model, extractor = CMMixerForRetrieval.from_pretrained(trial.settings.checkpoint), trial.processor.feature_extractor
    trial.train(model, trial.split.training, "checkpoint", trial.settings.epochs)
    centred = WithoutMeans.of(model, trial.split.training, extractor)
    return embed_clips(centred, trial.split.test, extractor, progress=False)


def mvpt(trial: Trial) -> ClipEmbeddings:
    """MVPt on frozen features of the checkpoint's towers."""
    features = FrozenFeatures.from_encoder_pretrained(f"{trial.settings.checkpoint}/pretraining")
    return trial.finetune(MVPtForRetrieval.from_features(video=features, audio=features), "mvpt")


ARMS: dict[str, Arm] = {
    "most frequent track": guess_frequent,
    "CCA on statistics": correlate,
    "checkpoint, as it is": untrained,
    "MVPt on frozen features": mvpt,
    RIVAL: from_random,
    "checkpoint, fine-tuned": from_checkpoint,
    "checkpoint, negatives of other clips alone": with_other_clips,
    "checkpoint, positions shifted in training": with_shifted_places,
    "checkpoint, the mean of each place taken away": without_means,
    "pre-trained on unpaired levels, fine-tuned": from_unpaired,
}


def make_clips(sectors: Sequence[Sector], sampling: Sampling, seed: int, half: int) -> Iterator[Mapping[str, Any]]:
    """Trips through sectors, each with an excerpt of its track: of its first half (`half=0`) or of its second (1)."""
    rng = np.random.default_rng(seed)
    for sector in sectors:
        length = probe(str(sector.track)).duration
        earliest, latest = half * length / 2, max(half * length / 2, (half + 1) * length / 2 - EXCERPT)
        for trip in range(1 if half else CLIPS_PER_SECTOR):
            start = float(rng.uniform(earliest, latest))
            times = [start + time for time in segment_midpoints(min(EXCERPT, length), sampling.num_frames)]
            places = np.sort(rng.uniform(0, 1, sampling.num_frames)) if trip else np.linspace(0, 1, sampling.num_frames)
            sound = read_windows(
                str(sector.track),
                times,
                window_seconds=sampling.window_seconds,
                sampling_rate=sampling.sampling_rate,
            )
            yield raw_row(
                f"{sector.name}#{trip}",
                sector.frames(places, sampling.shorter_side or 64),
                np.rint(sound * 32767).astype(np.int16),
                track_id=sector.track.stem,
                duration=EXCERPT,
            )


def hold_out(sectors: Sequence[Sector], kind: str, seed: int) -> tuple[list[Sector], list[Sector]]:
    """Sectors to train on and sectors to ask for; of held-out levels only those whose track is known."""
    group = _level if kind == "levels" else _tune
    names = sorted({group(sector) for sector in sectors})
    chosen = set(np.random.default_rng(seed).permutation(names)[: round(HELD_OUT * len(names))].tolist())
    training = [sector for sector in sectors if group(sector) not in chosen]
    known = {sector.track for sector in training}
    test = [sector for sector in sectors if group(sector) in chosen and (kind == "tracks" or sector.track in known)]
    return training, test


def _level(sector: Sector) -> str:
    return sector.name.rpartition(":")[0]


def _tune(sector: Sector) -> str:
    """A tune with its variants: `forest2` and `forest-sprint` are `forest`."""
    return re.match("[a-z]+", sector.track.stem).group()  # type: ignore[union-attr]


class _Whitened:
    """Principal components of unit variance, of what was seen in training."""

    def __init__(self, features: np.ndarray):
        self.scaler = StandardScaler().fit(features)
        self.components = PCA(COMPONENTS, whiten=True).fit(self.scaler.transform(features))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return self.components.transform(self.scaler.transform(features))


def _both(whiteners: Mapping[str, _Whitened], features: Mapping[str, np.ndarray]) -> Iterator[np.ndarray]:
    """The components of pictures, then those of sound."""
    return (whiteners[name](features[name]) for name in ("video", "audio"))


def _statistics(clips: Dataset, processor: CMMixerProcessor) -> dict[str, np.ndarray]:
    """Means over a clip's segments of colours in 4 × 4 cells and of 32 mel bands."""
    make, found = StackMaker(processor.feature_extractor), {"video": [], "audio": []}
    for start in range(0, len(clips), 64):
        stacks = make(collate_clips([clips[place] for place in range(start, min(start + 64, len(clips)))]))
        found["video"].append(colour_statistics(stacks["pixel_values"], 4).mean(1))
        found["audio"].append(mel_statistics(stacks["audio_values"], 32).mean(1))
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def run(settings: LevelSettings) -> None:
    """Score every arm on every split and seed that has no result yet."""
    output = Path(settings.output)
    sectors = list(Game(fetch(Path(settings.data))).sectors())
    sampling = clip_sampling(CMMixerProcessor.from_pretrained(settings.checkpoint).feature_extractor)
    for kind, seed in itertools.product(SPLITS, settings.seeds):
        split = _read_split(output / f"clips-{kind}-{seed}", sectors, sampling, kind, seed)
        for name, arm in ARMS.items():
            path = output / "results" / f"{kind}-{seed}-{re.sub('[^a-z]+', '-', name.lower())}.json"
            if not path.exists():
                set_seed(seed)
                trial = Trial(split, seed, settings, output / "work" / path.stem)
                found = rank_clips(arm(trial), by_track=True, seed=seed)
                scores = {way: found.metrics(way) for way in DIRECTIONS} | {"chance": found.chance}
                sizes = {"training": len(split.training), "pool": len(split.test)}
                facts = {"split": kind, "seed": seed, "arm": name, "epochs": settings.epochs} | sizes
                with atomic_file(path) as partial:
                    partial.write_text(json.dumps(facts | {"scores": scores}, indent=1))
                print(f"{path.stem}: {scores}", flush=True)


def _read_split(folder: Path, sectors: Sequence[Sector], sampling: Sampling, kind: str, seed: int) -> Split:
    if not folder.exists():
        training, test = hold_out(sectors, kind, seed)
        with atomic_directory(folder) as partial:
            for half, (name, chosen) in enumerate({"training": training, "test": test}.items()):
                Dataset.from_list(list(make_clips(chosen, sampling, seed, half))).save_to_disk(str(partial / name))
    return Split(*(Dataset.load_from_disk(str(folder / name)) for name in ("training", "test")))


def read_results(folder: Path) -> list[dict[str, Any]]:
    """What a run has left."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row an arm and split, R@1 and R@10 by track both ways, as mean and 95 % interval over the seeds.

    The last column is what R@10, the mean of both ways, gains on [`RIVAL`], paired by seed.
    """
    columns = ["R@1 v→m", "R@1 m→v", "R@10 v→m", "R@10 m→v", "chance R@1", "chance R@10", f"R@10 less “{RIVAL}”"]
    lines = [f"| split | arm | seeds | {' | '.join(columns)} |", "|" + "---|" * (3 + len(columns))]
    for kind, name in itertools.product(SPLITS, ARMS):
        own, rival = (_of(results, kind, arm) for arm in (name, RIVAL))
        if own:
            cells = [show([own[seed][way][metric] for seed in own]) for metric in METRICS for way in DIRECTIONS]
            chances = [f"{np.mean([own[seed]['chance'][metric] for seed in own]):.1f}" for metric in METRICS]
            gain = show([_both_ways(own[seed]) - _both_ways(rival[seed]) for seed in own if seed in rival])
            lines.append(f"| {kind} | {name} | {len(own)} | {' | '.join([*cells, *chances, gain])} |")
    return "\n".join(lines)


def _of(results: Sequence[dict[str, Any]], kind: str, arm: str) -> dict[int, dict[str, Any]]:
    """The scores of an arm on a split, by seed."""
    return {one["seed"]: one["scores"] for one in results if (one["split"], one["arm"]) == (kind, arm)}


def _both_ways(scores: Mapping[str, Mapping[str, float]]) -> float:
    return float(np.mean([scores[way]["R@10"] for way in DIRECTIONS]))


def main() -> None:
    """Run what is missing, then show the table."""
    settings = read_settings(LevelSettings)
    if settings.table is None:
        run(settings)
    print(table(read_results(Path(settings.table or f"{settings.output}/results"))))


if __name__ == "__main__":
    main()
