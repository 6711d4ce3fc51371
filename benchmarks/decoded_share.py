"""What it saves, and what it costs, to decode a part of the hidden patches alone (as VideoMAE V2 does).

    python benchmarks/decoded_share.py --output benchmarks/results/decoded-share.json      # prints the table, too
    python benchmarks/decoded_share.py --table benchmarks/results/decoded-share.json

The demo's model pre-trains for equally many steps with each share, from the same weights on the same clips; the score
is the variance of hidden patches that it explains on held-out clips.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from claims import show, step_flops
from small_runs import HELD_OUT, make_clips, read_or_measure, train_briefly
from transformers import set_seed

from cmmixer_hf import CMMixerForPreTraining
from cmmixer_hf.demo import World, make_extractor, model_config
from cmmixer_hf.evaluation import score_separation
from cmmixer_hf.training import read_settings

MEASURED = ("video_hidden", "audio_hidden")


@dataclass
class DecodedShareSettings:
    """How long to train."""

    shares: list[float] = field(default_factory=lambda: [1.0, 0.5, 0.25], metadata={"help": "of hidden patches"})
    seeds: list[int] = field(default_factory=lambda: [0, 1], metadata={"help": "of clips, weights and order"})
    clips: int = field(default=2000, metadata={"help": "to pre-train on"})
    held_out: int = field(default=300, metadata={"help": "clips to score on"})
    steps: int = field(default=1200, metadata={"help": "of 32 clips"})
    output: str | None = field(default=None, metadata={"help": "JSON file for the results"})
    table: str | None = field(default=None, metadata={"help": "print the table of this file instead"})


def run(settings: DecodedShareSettings) -> list[dict[str, Any]]:
    """A row a seed and share; the shares of a seed have the same clips."""
    results = []
    for seed in settings.seeds:
        clips, held_out = (
            make_clips(World(one), count)
            for one, count in ((seed, settings.clips), (seed + HELD_OUT, settings.held_out))
        )
        for share in settings.shares:
            set_seed(seed)
            model = CMMixerForPreTraining(model_config(decoded_share=share))
            flops = step_flops(model, clips)
            started = time.process_time()
            train_briefly(model, clips, settings.steps, seed=seed)
            facts = {"share": share, "seed": seed, "mflop": flops / 1e6, "seconds": time.process_time() - started}
            results.append(facts | score_separation(model, held_out, make_extractor()))
            print(results[-1], flush=True)
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a row a share, means and 95 % intervals over seeds."""
    lines = ["| share decoded | MFLOP a clip | CPU time, all = 1 | frames | sound |", "|---|---|---|---|---|"]
    whole = {result["seed"]: result for result in results if result["share"] == 1}
    for share in sorted({result["share"] for result in results}, reverse=True):
        own = [result for result in results if result["share"] == share]
        times = sum(result["seconds"] / whole[result["seed"]]["seconds"] for result in own) / len(own)
        scores = " | ".join(show([result[name] for result in own]) for name in MEASURED)
        lines.append(f"| {share:g} | {own[0]['mflop']:.0f} | {times:.2f} | {scores} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, or print."""
    print(table(read_or_measure(read_settings(DecodedShareSettings), run)))


if __name__ == "__main__":
    main()
