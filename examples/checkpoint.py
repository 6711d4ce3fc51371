"""The small checkpoint in `checkpoints/`, made again from a seed: `make checkpoint`.

Writes clips of the yardstick as mp4 files, pre-trains Solo + CutMix on their mixtures, fine-tunes two towers from
random weights with three quarters of the tokens dropped and small batches (what did best at equal compute,
`benchmarks/README.md`, "Recipe"; the learning rate and τ are the demo's, whose model is as wide), scores them on clips
that neither has seen, and keeps both models in half precision with their cards. The retriever is in the folder itself,
the model that separates mixtures in `pretraining/` beneath it, an index of held-out soundtracks in `index/` and clips
to ask it with in `clips/`. Half an hour on one core.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, set_seed

from cmmixer_hf import (
    CMMixerFeatureExtractor,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerProcessor,
    RetrievalIndex,
)
from cmmixer_hf.data import load_prepared, prepare
from cmmixer_hf.demo import IMAGE_SIZE, make_scene, model_config, write_library
from cmmixer_hf.evaluation import EvaluateSettings, evaluate
from cmmixer_hf.media import clip_sampling
from cmmixer_hf.search import Cutting, embed_file, open_embedder
from cmmixer_hf.training import TrainingSettings, read_settings, train, write_model_card

NAME = "checkpoints/cmmixer-small-yardstick"
SEEDS = 100, 101  # of the clips to train and to score on; `make demo` and the tests make others
TOKEN_DROP_RATE = 0.75  # in fine-tuning
INDEXED, QUERIES = 128, 3  # held-out soundtracks to search among, and clips to ask with
SHARED = {"keep_spectrograms": True, "save_steps": 200}
LIMITS = [
    "Its clips were made: it has never seen a real video, nor heard real music, and on your files it guesses. It is "
    "there to try the package, to test it, and to be fine-tuned.",
    "The clips are easy: one shape sounds beside distractors, and its height, flashes and form are the sound's.",
]
OF_RETRIEVAL = [
    "Its towers were trained from random weights and have never seen a mixture: at small budgets the same compute "
    "reached more that way than after masked pre-training (`examples/README.md` of the repository).",
    "Three quarters of each clip's tokens were dropped in training (`token_drop_rate`, which goes on when you train "
    "it further; 0 turns it off). Trained so, a model goes by when things happen and knows timbres less.",
]


@dataclass
class CheckpointSettings:
    """How much to train on, and where."""

    output: str = field(default=NAME, metadata={"help": "folder of the checkpoint"})
    work: str = field(default="runs/checkpoint", metadata={"help": "folder for clips and runs"})
    clips: int = field(default=1536, metadata={"help": "made clips to train on"})
    held_out: int = field(default=256, metadata={"help": "made clips to score on"})
    pretraining_epochs: int = field(default=6, metadata={"help": "passes over the clips"})
    finetuning_epochs: int = field(default=60, metadata={"help": "passes over the clips"})


def prepare_clips(folder: Path, count: int, seed: int, extractor: CMMixerFeatureExtractor) -> str:
    """Files made from a seed, decoded into shards."""
    files = write_library(folder / "clips", count, seed=seed)
    return str(prepare(files, folder / "prepared", clip_sampling(extractor, IMAGE_SIZE), restart=True).folder)


def keep(model_class: type[PreTrainedModel], run: Path, output: Path, **facts: object) -> None:
    """The model of a run in half precision, its extractor, the run's own files and pictures, and a card of them."""
    model_class.from_pretrained(run, dtype=torch.float16).save_pretrained(output)
    CMMixerProcessor.from_pretrained(run).save_pretrained(output)
    for name in ("settings.yaml", "metrics.jsonl", "evaluation.json"):
        if (run / name).exists():
            shutil.copy(run / name, output / name)
    if (run / "pictures").exists():
        shutil.copytree(run / "pictures", output / "pictures", dirs_exist_ok=True)
    write_model_card(output, **facts)


def keep_index(output: Path, files: list[Path]) -> None:
    """Soundtracks of held-out clips as an index of the checkpoint's model; the first few clips lie beside it."""
    embedder = open_embedder(output)
    embeds = torch.stack([embed_file(file, embedder, Cutting("audio"), is_query=False).embeds[0] for file in files])
    items = [{"title": title(file), "path": f"../clips/{file.name}"} for file in files]
    RetrievalIndex.build(items, embeds, model=str(output), identity=embedder.identity).save(output / "index")
    (output / "clips").mkdir(exist_ok=True)
    for file in files[:QUERIES]:
        shutil.copy(file, output / "clips")


def title(file: Path) -> str:
    """What plays in a made clip, whose name is prefix-SEED-NUMBER."""
    _, seed, number = file.stem.rsplit("-", 2)
    parts = make_scene(np.random.SeedSequence(int(seed), spawn_key=(int(number),))).parts
    return f"{file.stem}: " + ", ".join(f"{part.identity}, {len(part.starts)} notes" for part in parts)


def main() -> None:
    """Clips, both trainings, scores, checkpoint."""
    settings = read_settings(CheckpointSettings)
    work, output = Path(settings.work), Path(settings.output)
    extractor = CMMixerFeatureExtractor(image_size=IMAGE_SIZE, crop_scale=(0.8, 1.0))
    clips = load_prepared(prepare_clips(work / "train", settings.clips, SEEDS[0], extractor))
    held_out = prepare_clips(work / "held-out", settings.held_out, SEEDS[1], extractor)
    models = {"pretraining": CMMixerForPreTraining, "retrieval": CMMixerForRetrieval}
    for (name, model_class), rate, epochs in zip(
        models.items(), (3e-4, 1e-3), (settings.pretraining_epochs, settings.finetuning_epochs), strict=True
    ):
        set_seed(0)
        run = {"output_dir": str(work / name), "epochs": epochs, "warmup_epochs": epochs / 10, "learning_rate": rate}
        run["picture_epochs"] = epochs
        config = model_config()
        config.token_drop_rate = TOKEN_DROP_RATE if name == "retrieval" else 0.0
        train(model_class(config), clips, extractor, TrainingSettings(**(SHARED | run)))
    run, trained_on = work / "retrieval", f"{settings.clips} clips that the package makes from a seed"
    evaluate(EvaluateSettings(held_out, str(run), output=str(run / "evaluation.json")))
    scored_on = f"{settings.held_out} clips made from another seed"
    facts = {"trained_on": trained_on, "limits": LIMITS}
    keep(CMMixerForPreTraining, work / "pretraining", output / "pretraining", name=f"{NAME}/pretraining", **facts)
    facts |= {"evaluated_on": scored_on, "limits": LIMITS + OF_RETRIEVAL}
    keep(CMMixerForRetrieval, run, output, name=NAME, **facts)
    keep_index(output, sorted((work / "held-out" / "clips").iterdir())[:INDEXED])


if __name__ == "__main__":
    main()
