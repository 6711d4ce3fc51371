"""The rows of Tables 4 and 5: other people's models on the same clips, trained and scored as ours, or as published.

    cmmixer prepare esc10 prepared --need audio --num_frames 1 --window_seconds 5
    python benchmarks/peers.py --clips prepared --arms cmmixer-audio ast             # random weights, small, five folds
    python benchmarks/peers.py --clips prepared --arms ast=MIT/ast-finetuned-audioset-10-10-0.4593
    python benchmarks/peers.py --published                                           # what the papers report

VideoMAE, ViTMAE, AST are transformers' own classes with their own extractors; CAV-MAE and CMMixer are ours. An arm
`NAME=CHECKPOINT` starts from the weights of a folder or a name on the Hub, its head new; an arm `NAME` from random
weights, all of one width and depth. Clips of one fold are held out, or those of a split.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

from cmmixer_hf import (
    CAVMAEConfig,
    CAVMAEFeatureExtractor,
    CAVMAEForAudioVisualClassification,
    CMMixerConfig,
    CMMixerFeatureExtractor,
    CMMixerForAudioClassification,
    CMMixerForVideoClassification,
)
from cmmixer_hf.data import (
    LabelNames,
    PreparedClips,
    StackMaker,
    collate_clips,
    find_labels,
    load_prepared,
    unpack_frames,
    unpack_waveforms,
)
from cmmixer_hf.evaluation import ClipPredictions, Score, cross_validate, score_classification
from cmmixer_hf.files import aligned, atomic_file
from cmmixer_hf.training import read_settings

Rows = Sequence[Mapping[str, Any]]
Inputs = dict[str, torch.Tensor]
WIDTH, LAYERS, HEADS = 96, 4, 3
TRANSFORMER = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * WIDTH,
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Table, model, data that it was pre-trained on, score, and where that stands.
PUBLISHED = (
    ("4", "MaskFeat, MViTv2-L", "K400", "K400 84.3", "arXiv 2112.09133, as in the paper's Table 4"),
    ("4", "BEVT, Swin-B", "IN + K400", "K400 81.1", "arXiv 2112.01529, as in the paper's Table 4"),
    ("4", "VideoMAE-B", "K400", "K400 81.5", "arXiv 2203.12602, as in the paper's Table 4"),
    ("4", "ST-MAE-B", "K400", "K400 81.3", "arXiv 2205.09113, as in the paper's Table 4"),
    ("4", "CMMixer-Solo", "M2M", "K400 81.7", "arXiv 2308.13820, Table 4"),
    ("5", "AST", "AS + LS", "AS-20K 30.6, ESC-50 90", "the paper's Table 5, for MAE-AST (arXiv 2203.16691)"),
    ("5", "Audio-MAE, ViT-B", "AS", "AS-20K 37.1, ESC-50 94.1", "arXiv 2207.06405, as in the paper's Table 5"),
    ("5", "CMMixer-Solo", "M2M", "AS-20K 34.8, ESC-50 91.5", "arXiv 2308.13820, Table 5"),
)


@dataclass
class PeerSettings:
    """What to train and on which clips."""

    clips: str = field(default="prepared", metadata={"help": "folder that `cmmixer prepare` wrote, with labels"})
    arms: list[str] = field(default_factory=lambda: ["cmmixer-audio", "ast"], metadata={"help": "NAME or NAME=WEIGHTS"})
    test_split: str = field(default="", metadata={"help": "split to hold out; empty holds out every fold in turn"})
    output: str = field(default="runs/peers", metadata={"help": "folder for the results"})
    epochs: int = field(default=40, metadata={"help": "of every arm"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak, of every arm"})
    batch_size: int = field(default=32, metadata={"help": "clips of a step"})
    seed: int = field(default=0, metadata={"help": "of weights and order"})
    published: bool = field(default=False, metadata={"help": "print the published rows and train nothing"})


@dataclass(frozen=True)
class Peer:
    """A classifier and what it is fed with.

    Args:
        model: its class.
        configure: from the shape of a row's clip to the configuration of a small one.
        extract: from rows and the model's configuration to inputs.
    """

    model: type[PreTrainedModel]
    configure: Callable[[Mapping[str, Any]], Any]
    extract: Callable[[Rows, Any], Inputs]


def videomae_inputs(rows: Rows, config: VideoMAEConfig) -> Inputs:
    """(batch, frames, 3, side, side), as many frames as the model takes, evenly spaced."""
    clips = [_pictures(row, config.image_size) for row in rows]
    places = np.linspace(0, len(clips[0]) - 1, config.num_frames).round().astype(int)
    return {"pixel_values": torch.stack([clip[places] for clip in clips])}


def vit_inputs(rows: Rows, config: ViTConfig) -> Inputs:
    """(batch, 3, side, side): the middle frame."""
    clips = [_pictures(row, config.image_size) for row in rows]
    return {"pixel_values": torch.stack([clip[len(clip) // 2] for clip in clips])}


def ast_inputs(rows: Rows, config: ASTConfig) -> Inputs:
    """(batch, time, mel bins): all windows of a clip after one another, by AST's own extractor."""
    extractor = ASTFeatureExtractor(max_length=config.max_length, num_mel_bins=config.num_mel_bins)
    waves = [(unpack_waveforms(row).float().flatten() / 32768).numpy() for row in rows]
    return dict(extractor(waves, sampling_rate=extractor.sampling_rate, return_tensors="pt"))


def cmmixer_inputs(rows: Rows, config: CMMixerConfig) -> Inputs:
    """Stacks of both modalities."""
    window = len(unpack_waveforms(rows[0])[0]) / 16000
    return StackMaker(
        CMMixerFeatureExtractor(image_size=config.image_size, num_frames=config.num_frames, window_seconds=window)
    )(collate_clips(rows))


def cav_mae_inputs(rows: Rows, config: CAVMAEConfig) -> Inputs:
    """Frames and the filterbank of all windows together."""
    window = len(unpack_waveforms(rows[0])[0]) / 16000
    sizes = {"image_size": config.image_size, "audio_length": config.audio_length, "num_mel_bins": config.num_mel_bins}
    frames = rows[0]["num_segments"]
    return StackMaker(CAVMAEFeatureExtractor(num_frames=frames, window_seconds=window, **sizes))(collate_clips(rows))


def _pictures(row: Mapping[str, Any], side: int) -> torch.Tensor:
    """(K, 3, side, side), normalised as ImageNet's models expect."""
    frames = unpack_frames(row).permute(0, 3, 1, 2).float() / 255
    frames = torch.nn.functional.interpolate(frames, (side, side), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (frames - mean) / std


def _side(row: Mapping[str, Any]) -> int:
    """The shorter side of a clip's frames, in whole patches of 8."""
    return min(row["frame_shape"] or [64]) // 8 * 8


def _seconds(row: Mapping[str, Any]) -> float:
    return unpack_waveforms(row).numel() / 16000


def _cmmixer(row: Mapping[str, Any]) -> CMMixerConfig:
    return CMMixerConfig(image_size=_side(row), patch_size=8, num_frames=row["num_segments"], **TRANSFORMER)


PEERS: dict[str, Peer] = {
    "cmmixer-video": Peer(CMMixerForVideoClassification, _cmmixer, cmmixer_inputs),
    "cmmixer-audio": Peer(CMMixerForAudioClassification, _cmmixer, cmmixer_inputs),
    "cav-mae": Peer(
        CAVMAEForAudioVisualClassification,
        lambda row: CAVMAEConfig(
            image_size=_side(row), patch_size=8, audio_length=round(100 * _seconds(row)) // 8 * 8, **TRANSFORMER
        ),
        cav_mae_inputs,
    ),
    "videomae": Peer(
        VideoMAEForVideoClassification,
        lambda row: VideoMAEConfig(
            image_size=_side(row), patch_size=8, num_frames=row["num_segments"] // 2 * 2, **TRANSFORMER
        ),
        videomae_inputs,
    ),
    "vitmae": Peer(
        ViTForImageClassification,
        lambda row: ViTConfig(image_size=_side(row), patch_size=8, **TRANSFORMER),
        vit_inputs,
    ),
    "ast": Peer(
        ASTForAudioClassification,
        lambda row: ASTConfig(
            max_length=round(100 * _seconds(row)), num_mel_bins=128, patch_size=16, frequency_stride=16, time_stride=16,
            **TRANSFORMER,
        ),
        ast_inputs,
    ),
}  # fmt: skip


def train_and_score(arm: str, training: PreparedClips, held_out: PreparedClips, settings: PeerSettings) -> list[Score]:
    """Train an arm on some clips and score it on others."""
    set_seed(settings.seed)
    model, extract = build(arm, training)
    names = LabelNames.of(model.config)

    def collate(rows: Rows) -> Inputs:
        return _accepted(model, extract(rows)) | {"labels": torch.stack([names.encode(row) for row in rows])}

    arguments = TrainingArguments(
        output_dir=f"{settings.output}/work",
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch_size,
        warmup_steps=0.1,
        weight_decay=0.05,
        lr_scheduler_type="cosine",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=settings.seed,
    )
    Trainer(model, arguments, train_dataset=training, data_collator=collate).train()
    return score_classification(predict(model, extract, held_out, settings.batch_size), seed=settings.seed)


def build(arm: str, clips: PreparedClips) -> tuple[PreTrainedModel, Callable[[Rows], Inputs]]:
    """The model of an arm, its head for the labels of these clips, and what makes its inputs.

    Raises:
        ValueError: there is no such arm.
    """
    name, _, weights = arm.partition("=")
    if name not in PEERS:
        raise ValueError(f"there is no arm {name!r}: choose from {', '.join(PEERS)}")
    peer, classes = PEERS[name], find_labels(clips["labels"])
    several = max(map(len, clips["labels"])) > 1
    problem = "multi_label_classification" if several else "single_label_classification"
    head = {"id2label": classes, "label2id": {label: i for i, label in classes.items()}, "problem_type": problem}
    if weights:
        model = peer.model.from_pretrained(weights, ignore_mismatched_sizes=True, use_safetensors=True, **head)
    else:
        config = peer.configure(clips[0])
        config.update(head)
        model = peer.model(config)
    return model, lambda rows: peer.extract(rows, model.config)


def _accepted(model: PreTrainedModel, inputs: Inputs) -> Inputs:
    """Of two modalities the one that a model of one takes."""
    if len(inputs) == 1 or isinstance(model, CAVMAEForAudioVisualClassification):
        return inputs
    return {model.main_input_name: inputs[model.main_input_name]}


@torch.inference_mode()
def predict(
    model: PreTrainedModel, extract: Callable[[Rows], Inputs], clips: PreparedClips, batch_size: int
) -> ClipPredictions:
    """What a model says about clips."""
    model.eval()
    names, rows = LabelNames.of(model.config), [clips[place] for place in range(len(clips))]
    logits = [
        model(**{name: value.to(model.device) for name, value in _accepted(model, extract(batch)).items()}).logits.cpu()
        for batch in (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    ]
    found = torch.cat(logits).float()
    return ClipPredictions(
        found.sigmoid() if names.several else found.softmax(-1),
        torch.stack([names.truths(row) for row in rows]),
        names.several,
        tuple(row["clip_id"] for row in rows),
        (1,) * len(rows),
    )


def score_arm(arm: str, clips: PreparedClips, settings: PeerSettings) -> list[Score]:
    """Scores of one arm, over the folds or on a split."""

    def score(_fold: int, others: list[int], held_out: list[int]) -> list[Score]:
        return train_and_score(arm, clips.select(others), clips.select(held_out), settings)

    if not settings.test_split:
        return cross_validate(clips["fold"], score)
    chosen = np.array(clips["split"]) == settings.test_split
    return score(0, np.flatnonzero(~chosen).tolist(), np.flatnonzero(chosen).tolist())


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Live rows, then published ones; what a paper reports on its data is no score on these clips."""
    rows = [["table", "model", "from", "score", "source"]]
    for result in results:
        name, _, weights = result["arm"].partition("=")
        score = Score.from_dict(result["scores"][0])
        rows.append(["here", name, weights or "random weights", f"{score.metric} {score}", result["clips"]])
    return aligned([*rows, *map(list, PUBLISHED)], "<<<<<")


def main() -> None:
    """Score the arms that have no result yet, then print the table."""
    settings = read_settings(PeerSettings)
    folder = Path(settings.output)
    for arm in [] if settings.published else settings.arms:
        path = folder / f"{arm.replace('/', '_')}.json"
        if not path.exists():
            scores = score_arm(arm, load_prepared(settings.clips), settings)
            facts = {"arm": arm, "clips": settings.clips, "settings": asdict(settings)}
            with atomic_file(path) as partial:
                partial.write_text(json.dumps(facts | {"scores": [score.to_dict() for score in scores]}, indent=1))
    print(table([json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]))


if __name__ == "__main__":
    main()
