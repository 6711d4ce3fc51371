"""What is compared: ways to spend one budget of FLOPs on a retriever (Tables 1 and 2, and the arms they lack)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from cmmixer_hf.media import CAVMAEFeatureExtractor, CMMixerFeatureExtractor, Sampling
from cmmixer_hf.models import (
    CAVMAEConfig,
    CAVMAEForPreTraining,
    CAVMAEForRetrieval,
    CMMixerConfig,
    CMMixerForPreTraining,
    CMMixerForPreTrainingOutput,
    CMMixerForRetrieval,
)
from cmmixer_hf.models.baselines import (
    BaselineForRetrieval,
    CBMVRForRetrieval,
    CMMVRForRetrieval,
    CVMVAEForRetrieval,
    FrozenFeatures,
    MVPtConfig,
    MVPtForRetrieval,
)

PRETRAINING_SHARE = 0.5  # of a budget
TOKEN_DROP_RATE = 0.5  # of the arms that drop tokens in fine-tuning


@dataclass(frozen=True)
class Sizes:
    """What all arms have in common: the clips' stacks and the encoder.

    Args:
        image_size, patch_size: of frames and spectrograms, in pixels.
        num_frames: K.
        hidden_size, num_layers: of every encoder; heads of 32, a decoder of half the width and depth.
        temperature: τ of every InfoNCE loss; one for all, since the arms differ in what comes before it.
    """

    image_size: int = 32
    patch_size: int = 8
    num_frames: int = 4
    hidden_size: int = 64
    num_layers: int = 4
    temperature: float = 0.1

    @property
    def sampling(self) -> Sampling:
        """How clips are sampled for these stacks."""
        return Sampling(num_frames=self.num_frames, window_seconds=1.0, shorter_side=self.image_size)

    @property
    def transformer(self) -> dict[str, Any]:
        """Fields that CMMixer's and CAV-MAE's configurations share."""
        width, narrow = self.hidden_size, self.hidden_size // 2
        return {
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "num_frames": self.num_frames,
            "hidden_size": width,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": width // 32,
            "intermediate_size": 4 * width,
            "decoder_hidden_size": narrow,
            "decoder_num_hidden_layers": self.num_layers // 2,
            "decoder_num_attention_heads": max(1, narrow // 32),
            "decoder_intermediate_size": 4 * narrow,
            "temperature": self.temperature,
        }

    def cmmixer(self, **options) -> CMMixerConfig:
        """CMMixer of these sizes."""
        return CMMixerConfig(**(self.transformer | options))

    def cav_mae(self, **options) -> CAVMAEConfig:
        """CAV-MAE of these sizes, on the sound of all windows together."""
        steps = round(100 * self.num_frames * self.sampling.window_seconds) // self.patch_size * self.patch_size
        return CAVMAEConfig(**(self.transformer | {"audio_length": steps, "num_mel_bins": 32} | options))

    def extractor(self) -> CMMixerFeatureExtractor:
        """The stacks of every arm but CAV-MAE's."""
        window = self.sampling.window_seconds
        return CMMixerFeatureExtractor(image_size=self.image_size, num_frames=self.num_frames, window_seconds=window)

    def cav_mae_extractor(self) -> CMMixerFeatureExtractor:
        """CAV-MAE's frames and filterbank; its frames are augmented as the others' are."""
        config = self.cav_mae()
        return CAVMAEFeatureExtractor(
            num_frames=self.num_frames,
            image_size=self.image_size,
            window_seconds=self.sampling.window_seconds,
            audio_length=config.audio_length,
            num_mel_bins=config.num_mel_bins,
            crop_scale=(0.5, 1.0),
            flip_probability=0.5,
            noise_level=0.0,
        )


class UnmixedForPreTraining(CMMixerForPreTraining):
    """Masked pre-training on both modalities in turn, nothing mixed: each is reconstructed from itself alone."""

    def forward(self, pixel_values: torch.Tensor, audio_values: torch.Tensor, **kwargs) -> CMMixerForPreTrainingOutput:
        """Stacks as in [`CMMixerForPreTraining`]; the loss is the sum of both reconstructions."""
        shows_video = torch.ones_like(pixel_values[:, :, :1])
        seen, heard = (
            super(UnmixedForPreTraining, self).forward(
                pixel_values, audio_values, mixing_mask=mask, return_dict=True, **kwargs
            )
            for mask in (shows_video, 1 - shows_video)
        )
        losses = {"video_loss": seen["video_loss"], "audio_loss": heard["audio_loss"]}
        return CMMixerForPreTrainingOutput(loss=losses["video_loss"] + losses["audio_loss"], **losses)


@dataclass(frozen=True)
class Arm:
    """One way to a retriever.

    Args:
        about: what it is, for tables.
        pretrain: makes the model to pre-train; `None` pre-trains nothing.
        retrieve: makes the retriever from the sizes and the pre-trained model.
        share: of the budget that pre-training gets; the rest, and no more, is fine-tuning's.
        finetune: whether the retriever is trained at all.
        extractor: makes the stacks.
        pretrained_as: the arm whose pre-training this one shares, where that is not its own.
        changes: fields of [`ExperimentSettings`] that are other ones for this arm, such as its batch size.
    """

    about: str
    pretrain: Callable[[Sizes], PreTrainedModel] | None
    retrieve: Callable[[Sizes, Any], PreTrainedModel]
    share: float = PRETRAINING_SHARE
    finetune: bool = True
    extractor: Callable[[Sizes], CMMixerFeatureExtractor] = Sizes.extractor
    pretrained_as: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


def towers(
    model_class: type[CMMixerForRetrieval] = CMMixerForRetrieval, **options
) -> Callable[[Sizes, CMMixerForPreTraining | None], CMMixerForRetrieval]:
    """Makes both towers, from random weights or a pre-trained encoder, with `options` of their configuration."""

    def retrieve(sizes: Sizes, pretrained: CMMixerForPreTraining | None) -> CMMixerForRetrieval:
        model = model_class(sizes.cmmixer(**options))
        if pretrained is not None:
            for tower in (model.video_model, model.audio_model):
                tower.load_state_dict(pretrained.cmmixer.state_dict())
        return model

    return retrieve


def pretrain(
    model_class: type[CMMixerForPreTraining] = CMMixerForPreTraining, **options
) -> Callable[[Sizes], CMMixerForPreTraining]:
    """Makes the model to pre-train, with `options` of its configuration."""
    return lambda sizes: model_class(sizes.cmmixer(**options))


def _cmmixer(decoder: str, mixer: str) -> Arm:
    about = f"CMMixer, {decoder.title()}, {MIXER_NAMES[mixer]}"
    return Arm(about, pretrain(decoder_type=decoder, mixer=mixer), towers())


def _cav_mae(about: str, **weights: float) -> Arm:
    def retrieve(sizes: Sizes, pretrained: CAVMAEForPreTraining) -> CAVMAEForRetrieval:
        retriever = CAVMAEForRetrieval(sizes.cav_mae(contrastive_direction="symmetric"))
        learned, names = pretrained.cav_mae.state_dict(), retriever.cav_mae.state_dict()
        # What AV-MAE, which only sees both at once, has not learned for one modality alone starts as its joint norm.
        retriever.cav_mae.load_state_dict({n: learned.get(n, learned.get(_joint(n))) for n in names})
        return retriever

    return Arm(
        about,
        lambda sizes: CAVMAEForPreTraining(sizes.cav_mae(**weights)),
        retrieve,
        extractor=Sizes.cav_mae_extractor,
    )


def _joint(name: str) -> str:
    return name.replace(".audio.", ".joint.").replace(".video.", ".joint.")


def _baseline(
    about: str, model_class: type[BaselineForRetrieval], settings: Callable[[Sizes], dict[str, Any]] = lambda _: {}
) -> Arm:
    """A baseline of Table 2 on the frozen features of the encoder that Solo + CutMix pre-trained."""

    def retrieve(sizes: Sizes, pretrained: CMMixerForPreTraining) -> BaselineForRetrieval:
        features = FrozenFeatures.from_encoder(pretrained.cmmixer)
        return model_class.from_features(features, features, **settings(sizes))

    return Arm(about, ARMS["solo-cutmix"].pretrain, retrieve, pretrained_as="solo-cutmix")


def _temperature(sizes: Sizes) -> dict[str, Any]:
    return {"temperature": sizes.temperature}


def _mvpt_on_statistics(sizes: Sizes, pretrained: None) -> MVPtForRetrieval:
    """Colours and mel statistics of each segment: features that cost next to nothing, and know nothing of shapes."""
    features: dict[str, Any] = {f"{name}_features": {"source": source} for name, source in STATISTICS.items()}
    return MVPtForRetrieval(MVPtConfig(**features, **_temperature(sizes)))


STATISTICS = {"video": "colour_statistics", "audio": "mel_statistics"}
MIXER_NAMES = {"cutmix": "CutMix", "pixel": "Pixel Mixup", "mixup": "Mixup"}
ARMS: dict[str, Arm] = {
    "random": Arm("random weights", None, towers(), share=0.0, finetune=False),
    "scratch": Arm("no pre-training, fine-tuning as long as the others'", None, towers()),
    "contrastive": Arm("no pre-training, the whole budget in fine-tuning", None, towers(), share=0.0),
    "unmixed": Arm("masked pre-training, nothing mixed", pretrain(UnmixedForPreTraining), towers()),
}
ARMS |= {f"{decoder}-{mixer}": _cmmixer(decoder, mixer) for decoder in ("solo", "duet") for mixer in MIXER_NAMES}
ARMS |= {
    "contrastive-drop": Arm(
        "no pre-training, the whole budget in fine-tuning, half of the tokens dropped",
        None,
        towers(token_drop_rate=TOKEN_DROP_RATE),
        share=0.0,
    ),
    "solo-cutmix-drop": Arm(
        "CMMixer, Solo, CutMix, half of the tokens dropped in fine-tuning",
        ARMS["solo-cutmix"].pretrain,
        towers(token_drop_rate=TOKEN_DROP_RATE),
        pretrained_as="solo-cutmix",
    ),
    "av-mae": _cav_mae("AV-MAE", contrastive_weight=0.0),
    "cav": _cav_mae("CAV", reconstruction_weight=0.0, contrastive_weight=1.0),
    "cav-mae": _cav_mae("CAV-MAE"),
    "cbmvr": _baseline("CBMVR", CBMVRForRetrieval),
    "cmmvr": _baseline("CMMVR", CMMVRForRetrieval),
    "cvmvae": _baseline("CVMVAE", CVMVAEForRetrieval),
    "mvpt": _baseline("MVPt", MVPtForRetrieval, _temperature),
    "mvpt-statistics": Arm("MVPt on hand-made features", None, _mvpt_on_statistics, share=0.0),
}
