"""CVMVAE: product of experts, KL and the loss by formula; noise in training alone."""

import pytest
import torch
from baseline_models import build, pairs
from torch.distributions import Normal, kl_divergence

from cmmixer_hf.models.baselines.modeling_cvmvae import kl_to_standard_normal, product_of_experts
from cmmixer_hf.models.baselines.ranking_losses import triplet_loss


def gaussians(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_variance = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    return mean, log_variance


def test_the_product_of_experts_is_the_product_of_their_densities():
    mean, log_variance = gaussians(2, 3, 4)
    product = product_of_experts(mean, log_variance)
    points = torch.linspace(-2, 2, 9).view(-1, 1, 1)
    experts = Normal(mean, (log_variance / 2).exp()).log_prob(points[:, None]).sum(2)
    fused = Normal(product[0], (product[1] / 2).exp()).log_prob(points)
    torch.testing.assert_close(experts - experts[:1], fused - fused[:1], atol=1e-4, rtol=1e-4)  # up to a constant


def test_a_surer_expert_counts_for_more():
    mean, log_variance = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.0], [-3.0]]])
    fused, fused_log_variance = product_of_experts(mean, log_variance)
    assert 0.9 < fused.item() < 1
    assert fused_log_variance.item() < -3


def test_the_divergence_is_that_of_gaussians():
    mean, log_variance = gaussians(5, 4)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_the_loss_is_the_formula():
    model, given = build("cvmvae", cross_weight=0.7, kl_weight=0.3, matching_weight=0.5), pairs()
    noise = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    output = model(**given, noise=noise)
    x = [model.video_features(given["pixel_values"]), model.audio_features(given["audio_values"])]
    means, z, divergence = [], [], 0.0
    for features, tower, draw in zip(x, (model.video_tower, model.audio_tower), noise, strict=True):
        raw = tower[3](tower[0](features).relu())
        precision = (-raw[..., 16:]).exp()
        mean = (precision * raw[..., :16]).sum(1) / precision.sum(1)
        variance = 1 / precision.sum(1)
        means.append(torch.nn.functional.normalize(mean, dim=-1))
        z.append(mean + variance.sqrt() * draw)
        divergence = divergence + (mean**2 + variance - 1 - variance.log()).mean() / 2
    errors = []
    for place, decoder in enumerate((model.video_decoder, model.audio_decoder)):
        target = x[place].mean(1)
        own, cross = ((target - decoder(z[source])).square().mean() for source in (place, 1 - place))
        errors.append(own + 0.7 * cross)
    matching = triplet_loss(means[0], means[1]) + triplet_loss(means[1], means[0])
    torch.testing.assert_close(output.loss, sum(errors) + 0.3 * divergence + 0.5 * matching)
    torch.testing.assert_close(torch.stack([output.video_loss, output.audio_loss]), torch.stack(errors))
    torch.testing.assert_close(output.video_embeds, means[0])


def test_noise_is_drawn_in_training_alone_and_never_reaches_embeddings():
    model, given = build("cvmvae"), pairs()
    zero = torch.zeros(2, 6, 16)
    assert model(**given).loss == model(**given, noise=zero).loss
    assert model(**given).loss != model(**given, noise=zero + 1).loss
    assert torch.equal(model(**given).video_embeds, model(**given, noise=zero + 1).video_embeds)
    model.train()
    assert model(**given).loss != model(**given).loss
    assert model(**given, noise=zero).loss == model(**given, noise=zero).loss


def test_without_matching_cross_generation_alone_aligns():
    def alignment(cross_weight: float) -> float:
        model, given = build("cvmvae", cross_weight=cross_weight, matching_weight=0.0), pairs()
        optimizer = torch.optim.AdamW([v for v in model.parameters() if v.requires_grad], lr=1e-2)
        model.train()
        for _ in range(60):
            optimizer.zero_grad()
            model(**given).loss.backward()
            optimizer.step()
        return model.eval()(**given).logits_per_video.diagonal().mean().item()

    assert alignment(cross_weight=1.0) > alignment(cross_weight=0.0) + 0.2


@pytest.mark.parametrize("field", ["video_loss", "audio_loss", "kl_loss", "matching_loss"])
def test_parts_of_the_loss_are_not_concatenated_by_evaluation(field):
    assert field in build("cvmvae").config.keys_to_ignore_at_inference
