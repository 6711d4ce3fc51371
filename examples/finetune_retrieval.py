"""Fine-tuning for retrieval with InfoNCE over segments (§3.4, Eq. 2): a pre-trained encoder → two towers (Tables 1, 2).

    accelerate launch examples/finetune_retrieval.py --config examples/configs/retrieval_m2m.yaml
    python examples/finetune_retrieval.py --clips prepared --model runs/pretrain --epochs 20   # one CPU, a small model

Without `--model` the towers start from random weights: the arm that the paper lacks. With a model for retrieval both go
on from where they are, on your own clips. The negatives of a clip are all others of one batch of all processes;
accumulation adds none. `--validation_split` is scored on the way, and with `--best_metric video_to_audio/R@10` decides
which weights are kept. Scores of the clips of `--test_split` go to `evaluation.json` in the run folder, at the end.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoConfig, set_seed

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor, CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.data import load_prepared
from cmmixer_hf.evaluation import DIRECTIONS, EvaluateSettings, embed_clips, evaluate, evaluate_retrieval
from cmmixer_hf.training import TrainingSettings, read_settings, train


@dataclass
class RetrievalSettings(TrainingSettings):
    """What to fine-tune; the paper says neither epochs nor warm-up of this stage."""

    epochs: int = field(default=100, metadata={"help": "passes over the clips"})
    warmup_epochs: float = field(default=10.0, metadata={"help": "epochs of linear warm-up"})
    evaluation_epochs: int = field(default=10, metadata={"help": "score validation_split every so many epochs"})
    clips: str = field(default="prepared", metadata={"help": "folder that `cmmixer prepare` wrote"})
    train_split: str = field(default="train", metadata={"help": "split to train on"})
    validation_split: str = field(default="", metadata={"help": "split to score on the way; empty: none"})
    test_split: str = field(default="test", metadata={"help": "split to score at the end"})
    model: str = field(
        default="", metadata={"help": "pre-trained or retrieval model, folder or Hub name; empty: random"}
    )
    model_config: str = field(default="{}", metadata={"help": "fields of CMMixerConfig to change, as JSON"})


def main() -> None:
    """Train both towers, score them on clips they never saw."""
    settings = read_settings(RetrievalSettings)
    set_seed(settings.seed)
    changes = json.loads(settings.model_config)
    if settings.model:
        trained = "CMMixerForRetrieval" in (AutoConfig.from_pretrained(settings.model).architectures or [])
        start = CMMixerForRetrieval.from_pretrained if trained else CMMixerForRetrieval.from_encoder_pretrained
        model = start(settings.model, **changes)
        extractor = CMMixerProcessor.from_pretrained(settings.model).feature_extractor
    else:
        model = CMMixerForRetrieval(CMMixerConfig(**changes))
        extractor = CMMixerFeatureExtractor(image_size=model.config.image_size, num_frames=model.config.num_frames)
    clips = load_prepared(settings.clips)
    train_clips = clips.select_where("split", settings.train_split)
    clips.select_where("split", settings.test_split)  # a split that is not there should not cost a training
    validation_clips = clips.select_where("split", settings.validation_split) if settings.validation_split else None

    def score(model: CMMixerForRetrieval) -> dict[str, float]:
        scores = evaluate_retrieval(embed_clips(model, validation_clips, extractor, progress=False))
        return {f"{way}/{name}": value for way in DIRECTIONS for name, value in scores[way].items()}

    train(model, train_clips, extractor, settings, evaluate=score if validation_clips else None)
    output = str(Path(settings.output_dir) / "evaluation.json")
    evaluate(EvaluateSettings(settings.clips, settings.output_dir, output=output, split=settings.test_split))


if __name__ == "__main__":
    main()
