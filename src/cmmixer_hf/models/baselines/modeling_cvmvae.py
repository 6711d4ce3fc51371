"""CVMVAE, in its own paper CMVAE: a shared latent space, aligned by cross-generation (Table 2 of the paper).

Yi, Zhu, Xie and Chen: Cross-modal Variational Auto-encoder for Content-based Micro-video Background Music
Recommendation, IEEE Transactions on Multimedia 2021 (arXiv 2107.07268). Each modality has an encoder to a Gaussian
q(z | x) = N(μ, σ²) in one latent space and a decoder back; each latent has to generate *both* modalities; sources of
one clip are fused by the product of experts, which trusts each the more, the smaller its variance:

    T_l = σ_l⁻²,    μ = Σ_l T_l μ_l / Σ_l T_l,    σ² = 1 / Σ_l T_l
    loss = Σ_x [ |x − d_x(z_x)|² + w_cross |x − d_x(z_x′)|² + w_kl KL(q(z | x) ‖ N(0, 1)) ] + w_match · matching

with x video and music, x′ the other one, d_x the decoder of x, squares and KL as means over components. Inference takes
μ, without noise; clips are compared by its cosine.

Verified in the abstract: latent space, cross-generation, product of experts weighted by variance. Not verified:
weights, sizes, and how the original scores matches in training (here the ranking loss of CBMVR on μ; a weight of 0
leaves the alignment to cross-generation alone).

Left out or changed: the text of a micro-video, which is the original's other expert beside its picture; the experts
here are the segments. Decoders give the mean over segments of the standardised features. Our encoder describes frames
and sound by default.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.utils.generic import can_return_tuple

from ..losses import at_least_float32, reconstruction_loss
from ..outputs import CMMixerForRetrievalOutput
from .modeling_baseline import MLP, BaselineConfig, BaselineForRetrieval, compare, register
from .ranking_losses import triplet_loss


@strict
class CVMVAEConfig(BaselineConfig):
    r"""Configuration of [`CVMVAEForRetrieval`].

    Args:
        embedding_size (`int`, defaults to 128): of the latent space.
        hidden_size (`int`, defaults to 512): of the one hidden layer of encoders and decoders.
        hidden_act (`str`, defaults to `"relu"`): after that layer.
        hidden_dropout_prob (`float`, defaults to 0.0): likewise.
        cross_weight, kl_weight, matching_weight (`float`): of the terms of the loss.
        margin, top_share (`float`, defaults to 0.1): of the matching.
    """

    model_type = "cvmvae"
    keys_to_ignore_at_inference = [  # noqa: RUF012 - Trainer adds a list to it
        *BaselineConfig.keys_to_ignore_at_inference,
        "video_loss",
        "audio_loss",
        "kl_loss",
        "matching_loss",
    ]

    embedding_size: int = 128
    hidden_size: int = 512
    hidden_act: str = "relu"
    hidden_dropout_prob: float | int = 0.0
    cross_weight: float | int = 1.0
    kl_weight: float | int = 0.1
    matching_weight: float | int = 1.0
    margin: float | int = 0.1
    top_share: float | int = 0.1


@dataclass
class CVMVAEForRetrievalOutput(CMMixerForRetrievalOutput):
    """What [`CVMVAEForRetrieval`] returns beside embeddings.

    Args:
        video_loss, audio_loss: errors of each modality's decoder, from its own latent and, weighted, from the other's.
        kl_loss: of both modalities.
        matching_loss: ranking of the means, both directions.
    """

    video_loss: Tensor | None = None
    audio_loss: Tensor | None = None
    kl_loss: Tensor | None = None
    matching_loss: Tensor | None = None


class Encoder(MLP):
    """Features of each segment → Gaussians → their product."""

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, K, feature size) → mean and log-variance of the clip, each (batch, latent)."""
        mean, log_variance = super().forward(features).chunk(2, -1)
        return product_of_experts(mean, log_variance)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, K, feature size) → the mean, (batch, 1, latent), L2-normalised."""
        return nn.functional.normalize(self.posterior(features)[0], dim=-1)[:, None]


class CVMVAEForRetrieval(BaselineForRetrieval):
    """Two variational auto-encoders that share their latent space; one embedding a clip.

    Example:

    >>> features = {"video_features": {"source": "colour_statistics"}, "audio_features": {"source": "mel_statistics"}}
    >>> model = CVMVAEForRetrieval(CVMVAEConfig(**features))
    >>> model.get_video_features(torch.randn(2, 8, 3, 32, 32)).segment_embeds.shape
    torch.Size([2, 1, 128])
    """

    config: CVMVAEConfig
    video_tower: Encoder
    audio_tower: Encoder

    def __init__(self, config: CVMVAEConfig):
        super().__init__(config)
        activation, dropout = ACT2FN[config.hidden_act], config.hidden_dropout_prob
        hidden, latent = config.hidden_size, config.embedding_size
        video, audio = self.video_features.size, self.audio_features.size
        self.video_tower = Encoder([video, hidden, 2 * latent], activation=activation, dropout=dropout)
        self.audio_tower = Encoder([audio, hidden, 2 * latent], activation=activation, dropout=dropout)
        self.video_decoder = MLP([latent, hidden, video], activation=activation, dropout=dropout)
        self.audio_decoder = MLP([latent, hidden, audio], activation=activation, dropout=dropout)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        track_id: Tensor | None = None,
        noise: Tensor | None = None,
        return_loss: bool = True,
    ) -> CVMVAEForRetrievalOutput:
        """Embed pairs, generate both modalities from each, and compare them.

        Args:
            pixel_values, audio_values: normalised stacks, (batch, K, 3, H, W), paired by position.
            track_id: (batch,) integers; clips that share a track are positives of one another.
            noise: (2, batch, latent), standard normal, for video and audio; drawn when absent, 0 outside training.
            return_loss: compute the losses; needs equal batches of both.
        """
        features = self.features_of_pairs(pixel_values, audio_values)
        posteriors = self.video_tower.posterior(features[0]), self.audio_tower.posterior(features[1])
        embeddings = [nn.functional.normalize(mean, dim=-1)[:, None] for mean, _ in posteriors]
        losses: dict[str, Any] = {}
        if return_loss:
            targets = [clip_features.mean(1) for clip_features in features]
            losses = self.generation_losses(targets, sample(posteriors, noise, training=self.training))
            losses["kl_loss"] = kl_to_standard_normal(*posteriors[0]) + kl_to_standard_normal(*posteriors[1])
            losses["matching_loss"] = self.matching_loss(embeddings[0][:, 0], embeddings[1][:, 0], track_id)
            losses["loss"] = (
                losses["video_loss"]
                + losses["audio_loss"]
                + self.config.kl_weight * losses["kl_loss"]
                + self.config.matching_weight * losses["matching_loss"]
            )
        return compare(CVMVAEForRetrievalOutput, *embeddings, **losses)

    def generation_losses(self, targets: list[Tensor], latents: list[Tensor]) -> dict[str, Tensor]:
        """Squared errors of what each decoder makes of the latent of its own modality and of the other's."""
        losses = {}
        decoders = {"video_loss": self.video_decoder, "audio_loss": self.audio_decoder}
        for (name, decoder), target, own, other in zip(
            decoders.items(), targets, latents, reversed(latents), strict=True
        ):
            own_error, cross_error = (reconstruction_loss(decoder(z), target) for z in (own, other))
            losses[name] = own_error + self.config.cross_weight * cross_error
        return losses

    def matching_loss(self, video: Tensor, audio: Tensor, track_id: Tensor | None) -> Tensor:
        """Triplet loss of the L2-normalised means, (batch, latent), in both directions."""
        rank = partial(triplet_loss, margin=self.config.margin, top_share=self.config.top_share, track_id=track_id)
        return rank(video, audio) + rank(audio, video)


def product_of_experts(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """The normalised product of Gaussians over dimension 1: (batch, experts, latent) → (batch, latent), twice.

    >>> means, variances = torch.tensor([0.0, 3.0]), torch.tensor([2.0, 1.0])
    >>> mean, log_variance = product_of_experts(means.view(1, 2, 1), variances.log().view(1, 2, 1))
    >>> round(mean.item(), 4), round(log_variance.exp().item(), 4)
    (2.0, 0.6667)
    """
    weights = (-log_variance).softmax(1)
    return (weights * mean).sum(1), -(-log_variance).logsumexp(1)


def sample(posteriors: tuple[tuple[Tensor, Tensor], ...], noise: Tensor | None, *, training: bool) -> list[Tensor]:
    """z = μ + σ · noise for each posterior, (batch, latent); outside training the mean where no noise is given."""
    means = [mean for mean, _ in posteriors]
    if noise is None:
        if not training:
            return means
        noise = torch.randn(len(means), *means[0].shape, device=means[0].device)
    return [
        mean + (log_variance / 2).exp() * draw.to(mean.dtype)
        for (mean, log_variance), draw in zip(posteriors, noise, strict=True)
    ]


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)), mean over batch and components.

    >>> kl_to_standard_normal(torch.zeros(4, 8), torch.zeros(4, 8)).item()
    0.0
    """
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2


__all__ = ["CVMVAEConfig", "CVMVAEForRetrieval", "CVMVAEForRetrievalOutput"]


register(CVMVAEConfig, CVMVAEForRetrieval)
