"""Fine-tuning for action and sound classification (§4.7): a pre-trained encoder and a linear head (Tables 4, 5).

    accelerate launch examples/finetune_classification.py --config examples/configs/classification_k400.yaml
    cmmixer prepare esc10 prepared --need audio --num_frames 1 --window_seconds 5
    python examples/finetune_classification.py --config examples/configs/classification_esc10_small.yaml

With `--folds` every fold is held out once, as ESC-50 is scored; otherwise `--test_split` is. Without `--model` training
starts from random weights. Accuracies (mAP, where clips have several labels) go to `evaluation.json`.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import set_seed

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor, CMMixerProcessor
from cmmixer_hf import CMMixerForAudioClassification as AudioClassifier
from cmmixer_hf import CMMixerForVideoClassification as VideoClassifier
from cmmixer_hf.classification import cross_validate, predict_clips, score_classification
from cmmixer_hf.data import load_prepared
from cmmixer_hf.labels import find_labels
from cmmixer_hf.prepared_clips import PreparedClips
from cmmixer_hf.results import Score
from cmmixer_hf.settings import TrainingSettings, read_settings
from cmmixer_hf.training import train


@dataclass
class ClassificationSettings(TrainingSettings):
    """What to fine-tune; the defaults are the paper's 100 epochs at 2e-4."""

    epochs: int = field(default=100, metadata={"help": "passes over the clips"})
    warmup_epochs: float = field(default=10.0, metadata={"help": "epochs of linear warm-up"})
    layer_decay: float = field(default=0.75, metadata={"help": "learning rate of a layer relative to the next"})
    clips: str = field(default="prepared", metadata={"help": "folder that `cmmixer prepare` wrote, with labels"})
    modality: str = field(default="video", metadata={"help": "video (actions) or audio (sounds)"})
    model: str = field(default="", metadata={"help": "pre-trained model, a folder or Hub name; empty starts at random"})
    model_config: str = field(default="{}", metadata={"help": "fields of CMMixerConfig to change, as JSON"})
    extractor_config: str = field(default="{}", metadata={"help": "fields of the feature extractor to change, as JSON"})
    folds: bool = field(default=False, metadata={"help": "hold every fold out once"})
    test_split: str = field(default="test", metadata={"help": "split to score on, where there are no folds"})


def run(settings: ClassificationSettings, train_clips: PreparedClips, test_clips: PreparedClips) -> Score:
    """Fine-tune on some clips; top-1 accuracy, or mAP, on others."""
    set_seed(settings.seed)
    several = max(len(names) for names in train_clips["labels"]) > 1
    problem = "multi_label_classification" if several else "single_label_classification"
    classes = find_labels(train_clips["labels"])
    changes = json.loads(settings.model_config) | {"id2label": classes, "problem_type": problem}
    head = {"video": VideoClassifier, "audio": AudioClassifier}[settings.modality]
    adapted = json.loads(settings.extractor_config)
    if settings.model:
        model = head.from_pretrained(settings.model, **changes)
        saved = CMMixerProcessor.from_pretrained(settings.model).feature_extractor.to_dict()
        extractor = CMMixerFeatureExtractor.from_dict(saved | adapted)
    else:
        model = head(CMMixerConfig(**changes))
        sizes = {"image_size": model.config.image_size, "num_frames": model.config.num_frames}
        extractor = CMMixerFeatureExtractor(**(sizes | adapted))
    train(model, train_clips, extractor, settings)
    return score_classification(predict_clips(model, test_clips, extractor, progress=False))[0]


def main() -> None:
    """Score every fold, or one split."""
    settings = read_settings(ClassificationSettings)
    clips, output = load_prepared(settings.clips), Path(settings.output_dir)

    def train_fold(fold: int | str, others: list[int], held_out: list[int]) -> dict[str, float]:
        chosen = replace(settings, output_dir=str(output / f"{'fold' if settings.folds else 'split'}-{fold}"))
        score = run(chosen, clips.select(others), clips.select(held_out))
        print(f"{fold}: {score.metric} {score.value:.1f} %", flush=True)
        return {score.metric: score.value}

    if settings.folds:
        scores = [score.to_dict() for score in cross_validate(clips["fold"], train_fold)]
        print(f"mean {scores[0]['value']:.1f} %, standard deviation over folds {scores[0]['spread']:.1f}")
    else:
        splits = clips["split"]
        held_out = [place for place, split in enumerate(splits) if split == settings.test_split]
        others = [place for place, split in enumerate(splits) if split != settings.test_split]
        scores = [train_fold(settings.test_split, others, held_out)]
    (output / "evaluation.json").write_text(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
