"""Fine-tuning for retrieval with transformers' own Trainer, for who has a setup around it: thirty lines.

    python examples/trainer.py checkpoints/cmmixer-small-yardstick prepared --output_dir runs/trainer

The flags are those of `TrainingArguments`; on many GPUs start it with `torchrun`. The clips that compete are, as in
`finetune_retrieval.py`, those of one batch of all processes; that script also resumes to the last bit, makes stacks on
the device, scores, and writes a card.
"""

import sys
from typing import Any

import torch
from transformers import HfArgumentParser, Trainer, TrainingArguments

from cmmixer_hf import CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.data import StackMaker, collate_clips, load_prepared


def main() -> None:
    """Train the towers of a retrieval model further, on prepared clips."""
    source, clips, *flags = sys.argv[1:]
    parser = HfArgumentParser(TrainingArguments)  # type: ignore[arg-type]
    parser.set_defaults(learning_rate=1e-4, weight_decay=0.05, adam_beta2=0.95, max_grad_norm=1.0)
    parser.set_defaults(lr_scheduler_type="cosine", warmup_steps=0.1, per_device_train_batch_size=32, logging_steps=10)
    parser.set_defaults(remove_unused_columns=False, dataloader_drop_last=True, report_to="none")
    (arguments,) = parser.parse_args_into_dataclasses(flags)
    model = CMMixerForRetrieval.from_pretrained(source)
    processor = CMMixerProcessor.from_pretrained(source)
    make_stacks = StackMaker(processor.feature_extractor, augment=True)

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = collate_clips(rows, columns=["frames", "waveforms"])
        return make_stacks(batch) | {"track_id": batch["track_id"]}

    trainer = Trainer(model, arguments, train_dataset=load_prepared(clips), data_collator=collate)
    trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    trainer.save_model()
    processor.save_pretrained(arguments.output_dir)


if __name__ == "__main__":
    main()
