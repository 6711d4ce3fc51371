"""Fine-tuning for action and sound classification (§4.7): a pre-trained encoder and a linear head (Tables 4, 5).

    accelerate launch examples/finetune_classification.py --config examples/configs/classification_k400.yaml
    cmmixer prepare esc10 prepared --need audio --num_frames 1 --window_seconds 5
    python examples/finetune_classification.py --config examples/configs/classification_esc10_small.yaml

With `--folds` every fold is held out once, as ESC-50 is scored; otherwise `--test_split` is. Without `--model` training
starts from random weights. Accuracies (mAP, where clips have several labels) go to `evaluation.json` beside the model;
with folds beside each (`fold-1` and so on), and their means to the run folder.
"""

import json
from dataclasses import dataclass, field, replace

from transformers import set_seed

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor, CMMixerProcessor
from cmmixer_hf import CMMixerForAudioClassification as AudioClassifier
from cmmixer_hf import CMMixerForVideoClassification as VideoClassifier
from cmmixer_hf.data import PreparedClips, find_labels, load_prepared
from cmmixer_hf.evaluation import EvaluateSettings, EvaluationResult, evaluate, evaluate_folds
from cmmixer_hf.training import TrainingSettings, read_settings, train


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
    train_split: str = field(default="train", metadata={"help": "split to train on, where there are no folds"})
    test_split: str = field(default="test", metadata={"help": "split to score on, where there are no folds"})
    average_views: bool = field(default=False, metadata={"help": "average predictions over the clips of one file"})


def run(settings: ClassificationSettings, clips: PreparedClips, **held_out: str | int) -> EvaluationResult:
    """Fine-tune on these clips; scores of the split or fold that is held out."""
    set_seed(settings.seed)
    several = max(len(names or []) for names in clips["labels"]) > 1
    problem = "multi_label_classification" if several else "single_label_classification"
    classes = find_labels(clips["labels"])
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
    train(model, clips, extractor, settings)
    folder, views = settings.output_dir, settings.average_views
    output = f"{folder}/evaluation.json"
    return evaluate(EvaluateSettings(settings.clips, folder, output=output, average_views=views, **held_out))


def main() -> None:
    """Score every fold, or one split."""
    settings = read_settings(ClassificationSettings)
    clips = load_prepared(settings.clips)

    def run_fold(fold: int, others: list[int]) -> EvaluationResult:
        chosen = replace(settings, output_dir=f"{settings.output_dir}/fold-{fold}")
        return run(chosen, clips.select(others), fold=fold)

    if settings.folds:
        evaluate_folds(clips, run_fold, settings.output_dir)
    else:
        clips.select_where("split", settings.test_split)  # a split that is not there should not cost a training
        run(settings, clips.select_where("split", settings.train_split), split=settings.test_split)


if __name__ == "__main__":
    main()
