"""How well a pre-trained model separates mixtures (§5.3): explained variance of held-out originals."""

import torch
from torch import Tensor

from ..data.batches import Clips
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..models.modeling_cmmixer import MODALITIES, CMMixerForPreTraining
from ..models.patching import patchify
from .inference import Row, map_batches


def score_separation(
    model: CMMixerForPreTraining, clips: Clips, extractor: CMMixerFeatureExtractor, *, seed: int = 0
) -> dict[str, float]:
    """Explained variance in percent, of each modality, of what the model could not simply copy.

    A perfect prediction has 100. Predicting each clip's mean colour has 0 of the whole variance; predicting the mean
    colour of every patch, which is unknown for hidden ones, has 0 of the variance within patches.

    Args:
        model: its mixer draws the mixtures, its mask ratio hides patches.
        clips: held-out prepared clips.
        extractor: makes the stacks.
        seed: of mixtures and masks.

    Returns:
        `video_hidden`, `audio_hidden`: of the whole variance of patches that the encoder did not see; `video_covered`,
        `audio_covered`: of the pixels of visible patches where the other modality lay on top, which only
        `loss_on="all"` trains; each of these names with `_within_patches`: of the variance within patches.
    """
    torch.manual_seed(seed)

    def measure(stacks: dict[str, Tensor], rows: list[Row]) -> dict[str, Tensor]:
        output = model(**stacks, return_loss=False)
        size = model.config.patch_size
        shows_video = patchify(output.mixing_mask.expand_as(stacks["pixel_values"]), size)
        hidden = output.mask[..., None].expand_as(shows_video)
        covered = {"video": (1 - hidden) * (1 - shows_video), "audio": (1 - hidden) * shows_video}
        sums = {}
        for modality, stack in zip(MODALITIES, (stacks["pixel_values"], stacks["audio_values"]), strict=True):
            target = patchify(stack, size)
            prediction = patchify(model.unpatchify(output[f"{modality}_logits"].float(), stack), size)
            error = (prediction - target).square()
            for suffix, spread in _spreads(target.unflatten(-1, (size**2, -1))).items():
                for region, weight in (("hidden", hidden), ("covered", covered[modality])):
                    pair = (error * weight).sum(), (spread * weight).sum()
                    sums[f"{modality}_{region}{suffix}"] = torch.stack(pair).double().cpu()
        return sums

    batches = map_batches(measure, model, clips, extractor, progress=False)
    totals = {name: torch.stack([sums[name] for sums in batches]).sum(0) for name in batches[0]}
    return {name: 100 * (1 - error / spread).item() for name, (error, spread) in totals.items()}


def _spreads(target: Tensor) -> dict[str, Tensor]:
    """Squared distances from each clip's mean colour and from each patch's, of (batch, tokens, pixels, channels)."""
    means = {"": target.mean((1, 2), keepdim=True), "_within_patches": target.mean(2, keepdim=True)}
    return {suffix: (target - mean).square().flatten(-2) for suffix, mean in means.items()}
