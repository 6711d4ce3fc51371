"""Place is not content: can fine-tuning be kept from telling segments apart by their place in the clip?

    python benchmarks/places.py                                      # trains what has no result yet, prints the table
    python benchmarks/places.py --table benchmarks/results/places    # prints the table of what is there

Eq. 2's negatives include the other segments of the same clip, and position embeddings alone tell these apart: segments
then carry their place. Each arm fine-tunes the same pre-training on the same pairs of the demo's world. Beside
R@10 and the twins stands what is to be avoided: how often, between two *different* clips, the segment at the same place
is the most similar one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from claims import show
from datasets import Dataset
from small_runs import HELD_OUT, make_clips, train_briefly
from torch import Tensor, nn
from transformers import set_seed

from cmmixer_hf import CMMixerFeatureExtractor, CMMixerForRetrieval
from cmmixer_hf.demo import TWINS, World, make_extractor, score_understanding
from cmmixer_hf.evaluation import ClipEmbeddings, embed_clips, evaluate_retrieval
from cmmixer_hf.files import atomic_file
from cmmixer_hf.training import read_settings

CUES = 500  # training clips that the means of places are taken of


class OtherClips(CMMixerForRetrieval):
    """Eq. 2 with negatives of other clips alone, at any place."""

    def forward(self, pixel_values: Tensor, audio_values: Tensor, **kwargs: Any) -> Any:
        """As [`CMMixerForRetrieval`] with a symmetric loss and every clip its own track."""
        found = super().forward(pixel_values, audio_values, return_loss=False)
        video, audio = found.video_segment_embeds, found.audio_segment_embeds
        right = torch.arange(video.shape[0] * video.shape[1])
        clip = right // video.shape[1]
        own_elsewhere = (clip[:, None] == clip) & (right[:, None] != right)
        logits = video.flatten(0, 1) @ audio.flatten(0, 1).T / self.config.temperature
        logits = logits.masked_fill(own_elsewhere, float("-inf"))
        found.loss = (nn.functional.cross_entropy(logits, right) + nn.functional.cross_entropy(logits.T, right)) / 2
        return found


class ShiftedPlaces(CMMixerForRetrieval):
    """In training, segments take the positions of others, turned round by a number drawn for each tower and step."""

    def get_video_features(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        """As [`CMMixerForRetrieval.get_video_features`]."""
        return self._turned(super().get_video_features, pixel_values, **kwargs)

    def get_audio_features(self, audio_values: Tensor, **kwargs: Any) -> Any:
        """As [`CMMixerForRetrieval.get_audio_features`]."""
        return self._turned(super().get_audio_features, audio_values, **kwargs)

    def _turned(self, features: Callable[..., Any], stack: Tensor, **kwargs: Any) -> Any:
        shift = int(torch.randint(stack.shape[1], ())) if self.training else 0
        found = features(stack.roll(shift, 1), **kwargs)
        found["segment_embeds"] = found["segment_embeds"].roll(-shift, 1)
        return found


class WithoutMeans(CMMixerForRetrieval):
    """Trained towers; from every segment the mean of all clips' segments at its place is taken away."""

    means: dict[str, Tensor] | None = None

    @classmethod
    def of(cls, trained: CMMixerForRetrieval, clips: Dataset, extractor: CMMixerFeatureExtractor) -> "WithoutMeans":
        """The same weights, with the means of some clips."""
        model, seen = cls(trained.config), embed_clips(trained, clips, extractor, progress=False)
        model.load_state_dict(trained.state_dict())
        model.means = {"video": seen.video.mean(0), "audio": seen.audio.mean(0)}
        return model

    def get_video_features(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        """As [`CMMixerForRetrieval.get_video_features`]."""
        return self._centred("video", super().get_video_features(pixel_values, **kwargs))

    def get_audio_features(self, audio_values: Tensor, **kwargs: Any) -> Any:
        """As [`CMMixerForRetrieval.get_audio_features`]."""
        return self._centred("audio", super().get_audio_features(audio_values, **kwargs))

    def _centred(self, modality: str, found: Any) -> Any:
        if self.means is not None:
            found["segment_embeds"] = nn.functional.normalize(found["segment_embeds"] - self.means[modality], dim=-1)
        return found


# What is trained; what they save is read by the class that they derive from, which the card of a run folder names.
ARMS: dict[str, type[CMMixerForRetrieval]] = {
    "paper": CMMixerForRetrieval,
    "other-clips": OtherClips,
    "shifted": ShiftedPlaces,
}
for _class in ARMS.values():
    _class.__name__ = CMMixerForRetrieval.__name__
ABOUT = {
    "paper": "Eq. 2",
    "other-clips": "negatives of other clips alone",
    "shifted": "positions shifted in training",
    "without-means": "Eq. 2, the mean of each place taken away",  # of the paper's arm, once it is trained
}


@dataclass
class PlacesSettings:
    """Which cells to run, and how large."""

    output: str = field(default="runs/places", metadata={"help": "folder of the results, a file a cell"})
    table: str | None = field(default=None, metadata={"help": "print the table of this folder's results instead"})
    pretrained: str = field(
        default="checkpoints/cmmixer-small-yardstick/pretraining", metadata={"help": "what every arm fine-tunes"}
    )
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": f"of {', '.join(ARMS)}"})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "of clips and of their order"})
    pairs: int = field(default=2000, metadata={"help": "clips to fine-tune on"})
    pool: int = field(default=300, metadata={"help": "held-out clips"})
    steps: int = field(default=1000, metadata={"help": "of 32 pairs"})


def run_cell(
    name: str, seed: int, pairs: Dataset, held_out: Dataset, settings: PlacesSettings
) -> dict[str, dict[str, float]]:
    """Fine-tune an arm and score it; the paper's is scored without its means, too."""
    set_seed(seed)
    model = ARMS[name].from_encoder_pretrained(settings.pretrained)
    train_briefly(model, pairs, settings.steps, seed=seed)
    models = {name: model}
    if name == "paper":
        some = pairs.select(range(min(CUES, len(pairs))))
        models["without-means"] = WithoutMeans.of(model, some, make_extractor())
    return {arm: score(model, World(seed + HELD_OUT), held_out) for arm, model in models.items()}


def score(model: CMMixerForRetrieval, world: World, held_out: Dataset) -> dict[str, float]:
    """R@10 both ways, what is to be avoided, and the twins."""
    clips = embed_clips(model, held_out, make_extractor(), progress=False)
    twins = score_understanding(model, world, range(len(held_out)), make_extractor())
    scores = evaluate_retrieval(clips)
    return {
        "R@10": (scores["video_to_audio"]["R@10"] + scores["audio_to_video"]["R@10"]) / 2,
        "same place": 100 * place_share(clips),
        **{kind: one.value for kind, one in twins.items()},
    }


def place_share(clips: ClipEmbeddings) -> float:
    """How often a stranger's most similar segment is the one at the same place; 1/K of segments without a place.

    >>> ones = torch.eye(4).expand(3, 4, 4)
    >>> place_share(ClipEmbeddings(ones, ones))
    1.0
    """
    similarity = torch.einsum("nkd,nld->nkl", clips.video, clips.audio.roll(1, 0))
    return (similarity.argmax(-1) == torch.arange(similarity.shape[1])).float().mean().item()


def run(settings: PlacesSettings) -> None:
    """Every arm for every seed that has no result yet; the arms of a seed have the same clips."""
    output = Path(settings.output)
    for seed in settings.seeds:
        missing = [name for name in settings.arms if not (output / f"{name}-seed{seed}.json").exists()]
        if not missing:
            continue
        pairs, held_out = make_clips(World(seed), settings.pairs), make_clips(World(seed + HELD_OUT), settings.pool)
        for name in missing:
            for arm, scores in run_cell(name, seed, pairs, held_out, settings).items():
                facts = {"arm": arm, "seed": seed, "pairs": settings.pairs, "pool": settings.pool}
                with atomic_file(output / f"{arm}-seed{seed}.json") as partial:
                    partial.write_text(json.dumps(facts | {"steps": settings.steps, "scores": scores}, indent=1))
                print(f"{arm}-seed{seed}: {scores}", flush=True)


def table(folder: Path) -> str:
    """A row an arm: mean and 95 % interval over seeds of R@10, of what is to be avoided and of the twins."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*-seed*.json"))]
    columns = ["R@10", "same place", *TWINS]
    lines = [f"| fine-tuned with | seeds | {' | '.join(columns)} |", "|" + "---|" * (2 + len(columns))]
    for name, about in ABOUT.items():
        own = [result["scores"] for result in results if result["arm"] == name]
        if own:
            cells = [show([scores[column] for scores in own]) for column in columns]
            lines.append(f"| {about} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run, or print."""
    settings = read_settings(PlacesSettings)
    if settings.table is None:
        run(settings)
    print(table(Path(settings.table or settings.output)))


if __name__ == "__main__":
    main()
