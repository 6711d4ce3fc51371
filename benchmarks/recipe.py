"""A better recipe? One change at a time against its baseline, at equal compute, over several seeds.

    python benchmarks/recipe.py --shard 0/2 & python benchmarks/recipe.py --shard 1/2     # one process a core
    python benchmarks/recipe.py --table benchmarks/results/compare                        # the table of what is there

Changes of fine-tuning stand beside the arm without pre-training that spends its whole budget there; changes of
pre-training beside Solo with CutMix, half of the budget each. What wins belongs into the package; what does not is
written down here and nowhere else.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from arms import ARMS, Arm, pretrain, towers
from experiment import ExperimentSettings, read_results, run_experiment
from render import by_seed, differences, paired, show, verdict
from torch import Tensor, nn

from cmmixer_hf import CMMixerForPreTraining, CMMixerForRetrieval
from cmmixer_hf.models import even_noise, info_nce, patchify, reconstruction_loss
from cmmixer_hf.training import read_settings

FINETUNING, PRETRAINING = "contrastive", "solo-cutmix"  # baselines


class SigmoidForRetrieval(CMMixerForRetrieval):
    """Every pair of segments is a choice of its own, yes or no, as in SigLIP (arXiv 2303.15343)."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.offset = nn.Parameter(torch.tensor(-10.0))

    def forward(self, pixel_values: Tensor, audio_values: Tensor, **kwargs):
        """As [`CMMixerForRetrieval`] with another loss, a sum over candidates and a mean over anchors."""
        output = super().forward(pixel_values, audio_values, return_loss=False, return_dict=True, **kwargs)
        video, audio = output.video_segment_embeds.flatten(0, 1), output.audio_segment_embeds.flatten(0, 1)
        logits = video @ audio.T * self.log_scale.exp() + self.offset
        signs = 2 * torch.eye(len(logits), device=logits.device) - 1
        output.loss = -nn.functional.logsigmoid(signs * logits).sum(1).mean()
        return output


class PooledToo(CMMixerForRetrieval):
    """InfoNCE over segments plus InfoNCE over whole clips."""

    def forward(self, pixel_values: Tensor, audio_values: Tensor, **kwargs):
        """As [`CMMixerForRetrieval`] with the second term."""
        output = super().forward(pixel_values, audio_values, return_dict=True, **kwargs)
        pooled = info_nce(output.video_embeds[:, None], output.audio_embeds[:, None], self.config.temperature)
        output.loss = output.loss + pooled
        return output


class Averaged(CMMixerForRetrieval):
    """What is evaluated is a running average of the weights, by 0.98 a step."""

    averages: dict[str, Tensor] | None = None

    def forward(self, pixel_values: Tensor, audio_values: Tensor, **kwargs):
        """As [`CMMixerForRetrieval`]; in training, remembers the weights."""
        if self.training:
            current = {name: weight.detach() for name, weight in self.named_parameters()}
            if self.averages is None:
                self.averages = {name: weight.clone() for name, weight in current.items()}
            for name, average in self.averages.items():
                average.lerp_(current[name], 0.02)
        return super().forward(pixel_values, audio_values, **kwargs)

    def train(self, mode: bool = True):
        """Leaving training, take the average."""
        if not mode and self.averages is not None:
            self.load_state_dict(self.averages, strict=False)
            self.averages = None
        return super().train(mode)


class HiddenModality(CMMixerForPreTraining):
    """The loss also counts what the mixture hides of a modality in the patches that the encoder sees."""

    def forward(self, pixel_values: Tensor, audio_values: Tensor, **kwargs):
        """As [`CMMixerForPreTraining`] with weights between 0 and 1 a patch and modality."""
        output = super().forward(pixel_values, audio_values, return_dict=True, **kwargs)
        shows_video = output.mixing_mask.expand_as(pixel_values)
        share = patchify(shows_video, self.config.patch_size).mean(-1)
        losses = []
        for stack, logits, shown in (
            (pixel_values, output.video_logits, share),
            (audio_values, output.audio_logits, 1 - share),
        ):
            weights = torch.maximum(output.mask, 1 - shown)
            losses.append(reconstruction_loss(logits, patchify(stack, self.config.patch_size), weights))
        output.video_loss, output.audio_loss = losses
        output.loss = losses[0] + losses[1]
        return output


class ContrastiveToo(CMMixerForPreTraining):
    """Reconstruction from the mixture plus a tenth of InfoNCE between the unmixed streams, half of each hidden."""

    def forward(self, pixel_values: Tensor, audio_values: Tensor, **kwargs):
        """As [`CMMixerForPreTraining`] with the second term."""
        output = super().forward(pixel_values, audio_values, return_dict=True, **kwargs)
        video, audio = self._segments(pixel_values), self._segments(audio_values)
        output.loss = output.loss + 0.1 * info_nce(video, audio, self.config.temperature)
        return output

    def _segments(self, stack: Tensor) -> Tensor:
        """Embeddings of the segments, (batch, K, hidden), from as many visible tokens of each."""
        batch, segments = stack.shape[:2]
        tokens = patchify(stack, self.config.patch_size).shape[1]
        noise = even_noise(torch.rand(batch, tokens, device=stack.device), segments)
        encoded = self.cmmixer(stack, noise=noise, mask_ratio=0.5, return_dict=True)
        # Kept tokens come in the order of the noise: the first of every segment, then the second of every segment.
        kept = encoded.last_hidden_state[:, 1:]
        ids_keep = encoded.ids_restore.argsort(1)[:, : kept.shape[1]]
        one_hot = nn.functional.one_hot(ids_keep // (tokens // segments), segments).to(kept.dtype)
        means = one_hot.transpose(1, 2) @ kept / one_hot.sum(1)[..., None]
        return nn.functional.normalize(means, dim=-1)


def finetuned(about: str, model_class: type[CMMixerForRetrieval] = CMMixerForRetrieval, **options) -> Arm:
    """A change of fine-tuning."""
    return Arm(about, None, towers(model_class, **options), share=0.0)


def finetuned_with(about: str, **changes) -> Arm:
    """A change of the settings of fine-tuning."""
    return Arm(about, None, towers(), share=0.0, changes=changes)


def pretrained(about: str, model_class: type[CMMixerForPreTraining] = CMMixerForPreTraining, **options) -> Arm:
    """A change of pre-training."""
    return Arm(about, pretrain(model_class, **options), towers())


# More of a step or more steps of a FLOP: each gained on every seed. Batches are those of pre-training, too.
FASTER = {"batch_size": 32, "finetuning_rate": 2e-3}
TOGETHER = "three quarters of the tokens dropped, batches of 32 and learning rate 2e-3 in fine-tuning"
CHANGES: dict[str, dict[str, Arm]] = {
    FINETUNING: {
        "contrastive-drop": ARMS["contrastive-drop"],
        "drop-75": finetuned("three quarters of the tokens dropped", token_drop_rate=0.75),
        "learnable-temperature": finetuned("learnable τ from 0.1", learnable_temperature=True),
        "temperature-0.05": finetuned("τ = 0.05", temperature=0.05),
        "temperature-0.3": finetuned("τ = 0.3, the paper's", temperature=0.3),
        "sigmoid": finetuned("sigmoid loss", SigmoidForRetrieval),
        "one-direction": finetuned("video to audio alone, Eq. 2 as printed", contrastive_direction="video_to_audio"),
        "pooled-too": finetuned("InfoNCE over whole clips too", PooledToo),
        "averaged": finetuned("average of the weights (EMA, 0.98)", Averaged),
        "batch-32": finetuned_with("batches of 32", batch_size=32),
        "batch-128": finetuned_with("batches of 128", batch_size=128),
        "rate-5e-4": finetuned_with("learning rate 5e-4", finetuning_rate=5e-4),
        "rate-2e-3": finetuned_with("learning rate 2e-3", finetuning_rate=2e-3),
        "together": Arm(TOGETHER, None, towers(token_drop_rate=0.75), share=0.0, changes=FASTER),
    },
    PRETRAINING: {
        "mask-75": pretrained("mask ratio 0.75", mask_ratio=0.75),
        "norm-pix": pretrained("patches normalised by their own mean and deviation", norm_pix_loss=True),
        "hidden-modality": pretrained("loss on the hidden modality of visible patches", HiddenModality, loss_on="all"),
        "contrastive-too": pretrained("contrastive term in pre-training", ContrastiveToo),
        "quarter": Arm("a quarter of the budget in pre-training", pretrain(), towers(), share=0.25),
        "pretraining-rate-3e-3": Arm(
            "learning rate 3e-3 in pre-training", pretrain(), towers(), changes={"pretraining_rate": 3e-3}
        ),
        "pretrained-together": Arm(
            f"{TOGETHER}, after it in batches of 32", pretrain(), towers(token_drop_rate=0.75), changes=FASTER
        ),
    },
}
CANDIDATES = {name: arm for changes in CHANGES.values() for name, arm in changes.items()}


@dataclass
class RecipeSettings(ExperimentSettings):
    """Compare changes of the recipe at equal compute."""

    output: str = field(default="runs/compare", metadata={"help": "folder of the results, a file a cell"})
    arms: list[str] = field(
        default_factory=lambda: [FINETUNING, PRETRAINING, *CANDIDATES],
        metadata={"help": f"of {', '.join([FINETUNING, PRETRAINING, *CANDIDATES])}"},
    )
    budgets: list[float] = field(default_factory=lambda: [2.0], metadata={"help": "TFLOP in all, one or several"})
    difficulty: float = field(default=0.0, metadata={"help": "of the world, from 0 to 1"})
    table: str | None = field(default=None, metadata={"help": "run nothing; a folder whose results become a table"})


def table(results: list[dict[str, Any]]) -> str:
    """One row a change, in Markdown: its score and what it gains over its baseline, paired by seed."""
    lines = ["| change | seeds | R@10 | difference, paired by seed | it helps |", "|---|---|---|---|---|"]
    for base, changes in CHANGES.items():
        if own := by_seed(results, base):
            lines.append(f"| **{ARMS[base].about}** | {len(own)} | {show([*own.values()])} | | |")
            for name in changes:
                if gains := differences(results, name, base):
                    scores = by_seed(results, name).values()
                    row = (changes[name].about, str(len(scores)), show([*scores]), show(gains), verdict(gains))
                    lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def pretraining_table(results: list[dict[str, Any]]) -> str:
    """What mixed pre-training gives before the best fine-tuning, at equal fine-tuning and at equal compute."""
    lines = [
        "| TFLOP in all | no pre-training, half of them | half in pre-training | no pre-training, all of them "
        "| it helps, fine-tuning being equal | it helps, compute being equal |",
        "|---|---|---|---|---|---|",
    ]
    for budget in sorted({result["budget"] for result in results}):
        short, after, long = (
            by_seed([result for result in results if result["budget"] == tflop], arm)
            for arm, tflop in (("together", budget / 2), ("pretrained-together", budget), ("together", budget))
        )
        if short and after and long:
            gains = [paired(after, other) for other in (short, long)]
            means = [show([*scores.values()]) for scores in (short, after, long)]
            told = [f"{show(gain)}: {verdict(gain)}" for gain in gains]
            lines.append(f"| {budget:g} | {' | '.join(means + told)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, or show what is there."""
    settings = read_settings(RecipeSettings)
    results = read_results(settings.table) if settings.table else run_experiment(settings, arms=ARMS | CANDIDATES)
    for budget, pairs in itertools.product(settings.budgets, settings.pairs):
        print(table([result for result in results if (result["budget"], result["pairs"]) == (budget, pairs)]))
    for pairs in settings.pairs:
        print("\n" + pretraining_table([result for result in results if result["pairs"] == pairs]))


if __name__ == "__main__":
    main()
