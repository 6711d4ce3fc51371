"""Masked pre-training on mixed video and audio (§3.3, §4.3): prepared clips → an encoder and its decoder(s).

    cmmixer prepare FOLDER prepared                                                    # decode once
    accelerate launch examples/pretrain.py --config examples/configs/pretrain_m2m.yaml # as many GPUs as there are
    python examples/pretrain.py --clips prepared --model_config '{"hidden_size": 128, …}'  # a laptop, a small model

The same command goes on with a run that was interrupted. What follows is `finetune_retrieval.py` (Tables 1, 2) or
`finetune_classification.py` (Tables 4, 5). The paper's 400 epochs of 8000 clips are about an hour of an H200, by FLOPs.
"""

import json
from dataclasses import dataclass, field

from transformers import set_seed

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor, CMMixerForPreTraining
from cmmixer_hf.data import load_prepared
from cmmixer_hf.training import TrainingSettings, read_settings, train


@dataclass
class PretrainSettings(TrainingSettings):
    """What to pre-train; the defaults are the paper's Solo with CutMix."""

    clips: str = field(default="prepared", metadata={"help": "folder that `cmmixer prepare` wrote"})
    split: str = field(default="", metadata={"help": "use the clips of this split alone"})
    decoder_type: str = field(default="solo", metadata={"help": "solo or duet"})
    mixer: str = field(default="cutmix", metadata={"help": "cutmix, pixel or mixup"})
    mask_ratio: float = field(default=0.5, metadata={"help": "share of the mixture's patches that the encoder misses"})
    model_config: str = field(default="{}", metadata={"help": "other fields of CMMixerConfig, as JSON"})
    extractor_config: str = field(
        default="{}",
        metadata={"help": "fields of CMMixerFeatureExtractor, as JSON: window_seconds must be that of the clips"},
    )


def main() -> None:
    """Train, and leave the model, its extractor and all about the run in `output_dir`."""
    settings = read_settings(PretrainSettings)
    set_seed(settings.seed)
    config = CMMixerConfig(
        decoder_type=settings.decoder_type,
        mixer=settings.mixer,
        mask_ratio=settings.mask_ratio,
        **json.loads(settings.model_config),
    )
    clips = load_prepared(settings.clips)
    if settings.split:
        clips = clips.select_where("split", settings.split)
    sizes = {"image_size": config.image_size, "num_frames": config.num_frames}
    extractor = CMMixerFeatureExtractor(**(sizes | json.loads(settings.extractor_config)))
    history = train(CMMixerForPreTraining(config), clips, extractor, settings)
    print(f"loss {history[0]['loss']:.3f}, at the end {history[-1]['loss']:.3f}; the model is in {settings.output_dir}")


if __name__ == "__main__":
    main()
