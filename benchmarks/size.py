"""Parameters and multiply-accumulates of the paper's models (Table 3): python benchmarks/size.py

Nothing is allocated (meta device), so it takes seconds. The paper counts its fixed position tables as parameters;
ours are computed, so they are counted here beside the trainable ones.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining, CMMixerModel


def giga_macs(model: torch.nn.Module, **inputs: torch.Tensor) -> float:
    """Multiply-accumulates of one forward pass, in 10⁹."""
    with FlopCounterMode(display=False) as counter:
        model.eval()(**inputs)
    return counter.get_total_flops() / 2e9


def rows() -> list[str]:
    """The table's lines, in Markdown."""
    lines = [
        "| model, K = 8, 224 × 224 | trainable parameters | with position tables | GMACs, one forward |",
        "|---|---|---|---|",
    ]
    stack, mask = torch.empty(1, 8, 3, 224, 224, device="meta"), torch.empty(1, 8, 1, 224, 224, device="meta")
    for decoder in ("solo", "duet"):
        for ratio in (0.75, 0.5):
            config = CMMixerConfig(decoder_type=decoder, mask_ratio=ratio)
            with torch.device("meta"):
                model = CMMixerForPreTraining(config)
            macs = giga_macs(model, pixel_values=stack, audio_values=stack, mixing_mask=mask)
            tables = (1 + 8 * 14 * 14) * (config.hidden_size + config.decoder_hidden_size)
            trainable = model.num_parameters(only_trainable=True)
            lines.append(f"| {decoder}, mask {ratio} | {trainable:,} | {trainable + tables:,} | {macs:.1f} |")
    with torch.device("meta"):
        tower = CMMixerModel(CMMixerConfig())
    macs = giga_macs(tower, pixel_values=stack)
    tables = (1 + 8 * 14 * 14) * tower.config.hidden_size
    trainable = tower.num_parameters(only_trainable=True)
    return [*lines, f"| retrieval tower, no mask | {trainable:,} | {trainable + tables:,} | {macs:.1f} |"]


if __name__ == "__main__":
    print("\n".join(rows()))
