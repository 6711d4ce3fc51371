"""The small checkpoint in `checkpoints/`, made again from seeds: `make checkpoint`.

Two models learn to separate mixtures, one with the paper's loss and one with the loss on all patches, on clips of the
demo's world; the retriever is fine-tuned from the first. All are scored on clips that none has seen, beside what needs
no model, and kept in half precision with their cards: the retriever in the folder itself, `pretraining/` and
`pretraining-all/` beneath it, an index of held-out soundtracks in `index/` and clips to ask it with in `clips/`. A run
that was stopped goes on. About two hours on one core.
"""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from tqdm.auto import tqdm
from transformers import PreTrainedModel, set_seed

from cmmixer_hf import (
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerProcessor,
    RetrievalIndex,
)
from cmmixer_hf.data import StackMaker, collate_clips
from cmmixer_hf.demo import (
    World,
    make_extractor,
    make_row,
    make_scene,
    model_config,
    score_understanding,
    write_library,
)
from cmmixer_hf.evaluation import (
    EvaluationResult,
    Score,
    embed_clips,
    package_versions,
    score_free_cues,
    score_retrieval,
    score_separation,
)
from cmmixer_hf.hub import share_with_code
from cmmixer_hf.pictures import draw_separation, enlarge, png_bytes, sheet
from cmmixer_hf.search import Cutting, background_queries, embed_file, open_embedder
from cmmixer_hf.training import TrainingSettings, read_settings, train, write_model_card

NAME = "checkpoints/cmmixer-small-yardstick"
SEEDS = 100, 101  # of the clips to train and to score on; `make demo` and the tests make others
TWINS = 300  # held-out clips that are tried against their twins
CUES = 1000  # clips that the cues, and their linear map, are fitted on
FOLDERS = {"masked": "pretraining", "all": "pretraining-all"}  # a pre-training each, by `loss_on`
INDEXED, QUERIES = 128, 3  # held-out soundtracks to search among, and clips to ask with
LIMITS = [
    "Its clips were made: it has never seen a real video, nor heard real music, and on your files it guesses. It is "
    "there to try the package, to test it, and to be fine-tuned.",
]
UNKNOWN = [
    "It does not know motion: four still moments do not show at which rate something sways.",
    "Of harder clips, with larger mute shapes, a louder backing and notes in the other's turn, it puts the right sound "
    "first for one in three, where it does for nearly all others.",
]


@dataclass
class CheckpointSettings:
    """How much to train on, and where."""

    output: str = field(default=NAME, metadata={"help": "folder of the checkpoint"})
    work: str = field(default="runs/checkpoint", metadata={"help": "folder for clips and runs"})
    clips: int = field(default=16000, metadata={"help": "made clips to train on"})
    held_out: int = field(default=300, metadata={"help": "made clips to score on"})
    pretraining_steps: int = field(default=24000, metadata={"help": "of 32 clips, for each loss"})
    finetuning_steps: int = field(default=6000, metadata={"help": "of 32 pairs"})


def make_clips(folder: Path, world: World, count: int) -> Dataset:
    """Rows of a world, made once."""
    path = folder / f"world-{world.seed}-{world.difficulty:g}-{count}"
    if not path.exists():
        rows = [make_row(world, index) for index in tqdm(range(count), desc="making clips")]
        Dataset.from_list(rows).save_to_disk(path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
    return load_from_disk(str(path))


def fit(model: PreTrainedModel, clips: Dataset, output: Path, steps: int) -> None:
    """One training; the same call goes on with one that was stopped."""
    settings = TrainingSettings(
        output_dir=str(output),
        max_steps=steps,
        warmup_epochs=0.1 * steps * 32 / len(clips),
        learning_rate=1e-3,
        keep_spectrograms=True,
        save_steps=250,
        keep_checkpoints=1,
        logging_steps=50,
    )
    train(model, clips, make_extractor(), settings)


def keep(model_class: type[PreTrainedModel], run: Path, output: Path, **facts: Any) -> None:
    """The model of a run in half precision, its extractor, the run's own files, and a card of them."""
    model_class.from_pretrained(run, dtype=torch.float16).save_pretrained(output)
    CMMixerProcessor.from_pretrained(run).save_pretrained(output)
    for name in ("settings.yaml", "metrics.jsonl"):
        if (run / name).exists():
            shutil.copy(run / name, output / name)
    write_model_card(output, **facts)


def draw(model: CMMixerForPreTraining, clip: dict[str, Any], path: Path) -> None:
    """How a model takes a clip that it has never seen apart, with fixed mixture and hidden patches."""
    torch.manual_seed(0)
    stacks = StackMaker(make_extractor())(collate_clips([clip]))
    pictures = draw_separation(model.eval(), **stacks, extractor=make_extractor())
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png_bytes(sheet([enlarge(strip, 128) for strip in vars(pictures).values()], gap=12)))


def keep_index(output: Path, files: list[Path]) -> None:
    """Soundtracks of held-out clips as an index of the checkpoint's model; the first few clips lie beside it."""
    embedder = open_embedder(output)
    embeds = torch.stack([embed_file(file, embedder, Cutting("audio"), is_query=False).embeds[0] for file in files])
    items = [{"title": title(file), "path": f"../clips/{file.name}"} for file in files]
    background = background_queries(embedder)
    index = RetrievalIndex.build(items, embeds, model=str(output), identity=embedder.identity, background=background)
    index.save(output / "index")
    (output / "clips").mkdir(exist_ok=True)
    for file in files[:QUERIES]:
        shutil.copy(file, output / "clips")


def title(file: Path) -> str:
    """What plays in a made clip, whose name is prefix-SEED-NUMBER."""
    _, seed, number = file.stem.rsplit("-", 2)
    parts = make_scene(np.random.SeedSequence(int(seed), spawn_key=(int(number),))).parts
    return f"{file.stem}: " + ", ".join(f"{part.identity}, {len(part.starts)} notes" for part in parts)


def score(run: Path, training: Dataset, work: Path, held_out: int) -> EvaluationResult:
    """Retrieval in a pool of new clips and in one of harder ones, twins, and what needs no model beside them."""
    model, extractor = CMMixerForRetrieval.from_pretrained(run), make_extractor()
    scores: list[Score] = []
    for difficulty, pool in ((0.0, ""), (1.0, "harder clips")):
        world = World(SEEDS[1], difficulty=difficulty)
        clips = make_clips(work, world, held_out)
        scores += [replace(one, positives=pool) for one in score_retrieval(embed_clips(model, clips, extractor))]
        cues = score_free_cues(training, clips, extractor)
        cues.check()
        for name, found in cues.rows.items():
            about = {"direction": "video_to_audio", "positives": ", ".join(filter(None, (pool, f"no model, {name}")))}
            scores += [Score(metric, value, **about) for metric, value in found["video_to_audio"].items()]
        twins = score_understanding(model, world, range(min(TWINS, held_out)), extractor)
        about = f" twins{f', {pool}' if pool else ''}"
        scores += [replace(one, direction=f"{kind}{about}") for kind, one in twins.items()]
    return EvaluationResult(
        task="retrieval",
        model={"name": NAME, "architecture": type(model).__name__, "parameters": model.num_parameters()},
        data={"name": "made clips", "clips": held_out},
        protocol={"pool_size": held_out, "similarity": "segments", "seed": 0, "resamples": 1000, "confidence": 0.95},
        scores=scores,
        versions=package_versions(),
    )


def main() -> None:
    """Pre-trainings, fine-tuning, scores, checkpoint."""
    settings = read_settings(CheckpointSettings)
    work = Path(settings.work)
    clips = make_clips(work, World(SEEDS[0]), settings.clips)
    set_seed(0)
    fit(CMMixerForPreTraining(model_config()), clips, work / FOLDERS["masked"], settings.pretraining_steps)
    towers = CMMixerForRetrieval.from_encoder_pretrained(str(work / FOLDERS["masked"]))
    fit(towers, clips, work / "retrieval", settings.finetuning_steps)
    set_seed(0)
    fit(CMMixerForPreTraining(model_config(loss_on="all")), clips, work / FOLDERS["all"], settings.pretraining_steps)
    keep_all(settings, clips)


def keep_all(settings: CheckpointSettings, clips: Dataset) -> None:
    """Scores, cards, models and the index."""
    work, output = Path(settings.work), Path(settings.output)
    run, separations = work / "retrieval", {}
    held_out = make_clips(work, World(SEEDS[1]), settings.held_out)
    facts: dict[str, Any] = {"trained_on": f"{settings.clips} clips that the package makes from a seed"}
    for name in FOLDERS.values():
        model = CMMixerForPreTraining.from_pretrained(work / name)
        separations[name] = score_separation(model, held_out, make_extractor())
        shares = ", ".join(f"{region.replace('_', ' ')} {share:.0f} %" for region, share in separations[name].items())
        limits = [*LIMITS, f"Of the variance of what it was not shown it explains, on new clips: {shares}."]
        keep(CMMixerForPreTraining, work / name, output / name, name=f"{NAME}/{name}", limits=limits, **facts)
        draw(model, held_out[0], output / name / "pictures" / "held-out.png")
        write_model_card(output / name)
    (output / "separation.json").write_text(json.dumps(separations, indent=1))
    keep(CMMixerForRetrieval, run, output, name=NAME, limits=LIMITS + UNKNOWN, **facts)
    score(run, clips.select(range(min(CUES, len(clips)))), work, settings.held_out).save(output / "evaluation.json")
    write_model_card(output, evaluated_on=f"{settings.held_out} clips made from another seed")
    share_with_code(output)
    keep_index(output, write_library(work / "clips", min(INDEXED, settings.held_out), seed=SEEDS[1]))


if __name__ == "__main__":
    main()
