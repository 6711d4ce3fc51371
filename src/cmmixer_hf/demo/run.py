"""The main job end to end: clips in, a trained model, ranked music and a report out (`cmmixer demo`)."""

import json
import math
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..data.batches import KeptClips, SourceError, StackMaker, collate_clips, unpack_frames
from ..data.preparation import Prepared, find_media, prepare
from ..data.prepared_clips import PreparedClips, load_prepared
from ..data.workers import count_workers
from ..evaluation.free_cues import score_free_cues
from ..evaluation.metrics import ranks
from ..evaluation.results import NAMES, Score, package_versions
from ..evaluation.retrieval import DIRECTIONS, ClipEmbeddings, embed_clips, evaluate_retrieval
from ..files import aligned, atomic_file
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..media.processing_cmmixer import clip_sampling
from ..media.reading import read_windows, write_clip
from ..models.configuration_cmmixer import CMMixerConfig
from ..models.modeling_cmmixer import CMMixerForPreTraining, CMMixerForRetrieval
from ..models.similarity import segment_similarity
from ..pictures.figures import SEPARATION
from ..pictures.strips import SeparationPictures, draw_separation, enlarge, png_bytes, sheet, three_mixtures
from ..progress import Progress
from ..search.background import background_queries
from ..search.embedders.embedder import open_embedder
from ..search.index import Match, RetrievalIndex, clock
from ..settings import DemoSettings
from ..training.loop import TrainingSettings, train
from ..training.model_card import write_model_card
from .report import Panel, Query, Report, Track, write_report
from .twins import TWINS, score_understanding
from .world import SMALL, World, write_library

IMAGE_SIZE, SEGMENTS = 32, 4
MADE_CLIPS = (
    "Its clips were made: it has never seen a real video, nor heard real music, and on your files it guesses. It is "
    "there to show that everything works."
)
BATCH_SIZE = 32
PRETRAINING_RATE, FINETUNING_RATE = 1e-3, 1e-3
# Few clips make a score a matter of luck; under so many the table says so.
FEW_CLIPS = 100
LISTEN_SECONDS = 30.0
LISTEN_RATE = 24000
MOST_TWINS = 256  # clips that are tried against their twins
LISTEN_FOR = (
    "Two shapes play by turns, and the one that plays is lit. Each shape has its timbre: the disc is a pure tone, the "
    "square a clarinet, the triangle a saw, the star a bell, the ring trembles, the cross is breathy. Where a shape "
    "stands is its pitch, but each in its own way: disc, triangle and ring rise with it, square, star and cross fall. "
    "Listen for whose turn it is, and whether it goes up or down. Brightness and loudness say nothing: the table has "
    "the best that such a cue reaches without a model."
)


def run_demo(settings: DemoSettings) -> dict[str, Any]:
    """Run all six stages; everything lies in `settings.output` afterwards, `report.html` first of all.

    It starts processes: a script calls it under `if __name__ == "__main__":`.

    Raises:
        SourceError: too few clips can be used.
    """
    started = time.monotonic()
    output, extractor = Path(settings.output), make_extractor()
    training, held_out, prepared = _clips(settings, extractor)
    model, histories = _train(settings, training, extractor)
    print("5/6 index")
    embeddings = embed_clips(model, held_out, extractor)
    index = _index(held_out, embeddings, output)
    print("6/6 search")
    untrained = CMMixerForRetrieval(model.config)
    scores = {
        "trained": evaluate_retrieval(embeddings),
        "untrained": evaluate_retrieval(embed_clips(untrained, held_out, extractor)),
    }
    scores |= score_free_cues(training, held_out, extractor).rows
    rows = _score_rows(scores)
    twins = _understood(settings, {"trained": model, "untrained": untrained}, extractor)
    notes = _notes(settings, training, held_out, prepared)
    facts = _facts(settings, training, held_out, time.monotonic() - started)
    report = Report(
        title="CMMixer: find the music that fits a video",
        lead=_lead(settings, training, held_out),
        listen_for=LISTEN_FOR if settings.videos is None else "",
        scores=rows,
        twins=_twin_rows(twins),
        panels=_panels(output, held_out, extractor),
        histories={stage: history for stage, history in histories.items() if history},
        queries=_queries(settings, held_out, embeddings, index),
        notes=notes,
        facts=facts,
        command=_command(settings),
    )
    write_report(output / "report.html", report)
    results = {"scores": scores, "twins": twins, "held_out": len(held_out), "facts": facts}
    with atomic_file(output / "results.json") as partial:
        partial.write_text(json.dumps(results, indent=2))
    tables = [_table(found) for found in (_twin_rows(twins), rows) if found]
    print("", *tables, "\n".join(notes), f"Look at it: {output / 'report.html'}", sep="\n\n")
    return results


def model_config(**options: Any) -> CMMixerConfig:
    """A Solo + CutMix model small enough to learn in minutes on two cores; `options` are further fields."""
    return CMMixerConfig(
        image_size=IMAGE_SIZE,
        patch_size=8,
        num_frames=SEGMENTS,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=384,
        decoder_hidden_size=64,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=256,
        temperature=0.05,
        **options,
    )


def make_extractor() -> CMMixerFeatureExtractor:
    """Its stacks: a moment of sound around each of a few frames, each standardised for itself."""
    return CMMixerFeatureExtractor(
        image_size=IMAGE_SIZE,
        num_frames=SEGMENTS,
        window_seconds=SMALL.window_seconds,
        crop_scale=(0.8, 1.0),
        crop_ratio=(1.0, 1.0),
        standardize=True,
    )


def _clips(settings: DemoSettings, extractor: CMMixerFeatureExtractor) -> tuple[PreparedClips, PreparedClips, Prepared]:
    """Stages 1 and 2: files, prepared, as a training and a held-out set that share no file."""
    print("1/6 clips")
    output = Path(settings.output)
    if settings.videos is None:
        count = settings.clips + settings.held_out
        files = write_library(output / "clips", count, seed=settings.seed, num_workers=count_workers(count))
    else:
        files = find_media(settings.videos)
    print("2/6 prepare")
    sampling, num_workers = clip_sampling(extractor, IMAGE_SIZE), count_workers(len(files))
    prepared = prepare(files, output / "prepared", sampling, num_workers=num_workers, restart=True)
    clips = load_prepared(prepared.folder)
    for _, error in prepared.errors:
        print(f"left out: {error}")
    if settings.videos is None:
        held_out = {str(path) for path in files[settings.clips :]}
    else:
        held_out = _hold_out(clips["path"], settings.seed)
    places = [place for place, path in enumerate(clips["path"]) if path in held_out]
    others = [place for place, path in enumerate(clips["path"]) if path not in held_out]
    return clips.select(others), clips.select(places), prepared


def _hold_out(paths: Sequence[str], seed: int) -> set[str]:
    """A quarter of the user's own clips, at least two."""
    if len(paths) < 4:
        raise SourceError(
            f"only {len(paths)} clips are usable; give at least 4, some to train on, some to search among"
        )
    return set(random.Random(seed).sample(sorted(paths), max(2, len(paths) // 4)))


def _train(
    settings: DemoSettings, clips: PreparedClips, extractor: CMMixerFeatureExtractor
) -> tuple[CMMixerForRetrieval, dict[str, list[dict[str, float]]]]:
    """Stages 3 and 4: masked pre-training, then two towers from its encoder."""
    output = Path(settings.output)
    print("3/6 pre-train")
    torch.manual_seed(settings.seed)
    pretrained = CMMixerForPreTraining(model_config())
    histories: dict[str, list[dict[str, float]]] = {}
    kept = KeptClips(clips, extractor)  # for both stages
    if settings.pretraining_samples:
        stage = _stage(settings, clips, settings.pretraining_samples, PRETRAINING_RATE, output / "pretrained")
        histories["Pre-training"] = train(pretrained, kept, extractor, stage)
    else:
        pretrained.save_pretrained(output / "pretrained")
    print("4/6 fine-tune")
    dropping = {"token_drop_rate": settings.token_drop_rate}
    model = CMMixerForRetrieval.from_encoder_pretrained(str(output / "pretrained"), **dropping)
    stage = _stage(settings, clips, settings.finetuning_samples, FINETUNING_RATE, output / "retrieval")
    histories["Fine-tuning"] = train(model, kept, extractor, stage)
    made = settings.videos is None
    trained_on = f"{len(clips)} clips {'that the package makes from a seed' if made else 'of your own'}"
    write_model_card(output / "retrieval", trained_on=trained_on, limits=[MADE_CLIPS] if made else [])
    return model, histories


def _stage(
    settings: DemoSettings, clips: PreparedClips, samples: int, learning_rate: float, output: Path
) -> TrainingSettings:
    epochs = math.ceil(samples / len(clips))
    return TrainingSettings(
        output_dir=str(output),
        resume=False,
        save_steps=0,
        epochs=epochs,
        warmup_epochs=0.1 * epochs,
        batch_size=BATCH_SIZE,
        learning_rate=learning_rate,
        logging_steps=max(1, samples // BATCH_SIZE // 100),
        seed=settings.seed,
    )


def _index(clips: PreparedClips, embeddings: ClipEmbeddings, output: Path) -> RetrievalIndex:
    """Stage 5: the held-out soundtracks, saved and read back as `cmmixer search` does."""
    embedder = open_embedder(output / "retrieval")
    items = [
        {"title": Path(path).stem, "path": path, "start": 0.0, "end": duration, "duration": duration}
        for path, duration in zip(clips["path"], clips["duration"], strict=True)
    ]
    index = RetrievalIndex.build(
        items,
        embeddings.audio,
        model=embedder.name,
        identity=embedder.identity,
        background=background_queries(embedder),
    )
    index.save(output / "index")
    return RetrievalIndex.load(output / "index")


def _queries(
    settings: DemoSettings, clips: PreparedClips, embeddings: ClipEmbeddings, index: RetrievalIndex
) -> list[Query]:
    """The first held-out clips, not the best ones, each with its five best tracks and its own one."""
    places = ranks(segment_similarity(embeddings.video, embeddings.audio))
    queries = []
    for number in Progress(range(min(settings.queries, len(clips))), desc="reporting", unit="query"):
        row = clips[number]
        matches = index.search(embeddings.video[number], k=len(index))
        own = [match for match in matches[5:] if match.item["path"] == row["path"]]
        tracks = [_track(match, row["path"]) for match in matches[:5] + own]
        frames = unpack_frames(row).numpy()
        queries.append(Query(Path(row["path"]).stem, frames, places[number].item(), tracks, pool=len(clips)))
    return queries


def _track(match: Match, path: str) -> Track:
    """A match of the clip at `path`, with the middle of the matched section to listen to."""
    start, end = match.item["start"], match.item["end"]
    middle, seconds = (start + end) / 2, min(end - start, LISTEN_SECONDS)
    first = middle - seconds / 2
    place = f", {clock(first)}-{clock(first + seconds)}" if first >= 1 else ""
    sound = _sound(match.item["path"], middle, seconds)
    return Track(match.item["title"] + place, match.score, match.item["path"] == path, sound)


def _sound(path: str, middle: float, seconds: float) -> bytes:
    """Some seconds of a track around an instant, as m4a."""
    waveform = read_windows(path, [middle], window_seconds=seconds, sampling_rate=LISTEN_RATE)[0]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "track.m4a"
        write_clip(target, None, waveform, sampling_rate=LISTEN_RATE)
        return target.read_bytes()


def _panels(output: Path, clips: PreparedClips, extractor: CMMixerFeatureExtractor) -> list[Panel]:
    """The three mixtures of one clip (Fig. 2), and reconstructions of two (Figs. 7 and 8)."""
    model = CMMixerForPreTraining.from_pretrained(output / "pretrained").eval()
    stacks = StackMaker(extractor)(collate_clips([clips[number] for number in range(2)]))
    first = {name: stack[:1] for name, stack in stacks.items()}
    mixtures = three_mixtures(**first, extractor=extractor, generator=torch.Generator().manual_seed(0))
    panels = [Panel(name, image, group="Mixtures (Eq. 1)") for name, image in mixtures.items()]
    for number in range(2):
        torch.manual_seed(number)
        one = {name: stack[number : number + 1] for name, stack in stacks.items()}
        pictures = draw_separation(model, **one, extractor=extractor)
        group = f"Reconstruction of held-out clip {number + 1}"
        panels += [Panel(caption, getattr(pictures, name), group=group) for name, caption in SEPARATION.items()]
        if number == 0:
            _write_separation(output / "separation.png", pictures)
    return panels


def _write_separation(path: Path, pictures: SeparationPictures) -> None:
    """The four strips that tell the story, beneath one another, as one picture."""
    strips = (pictures.mixture, pictures.visible, pictures.video_reconstruction, pictures.audio_reconstruction)
    stacked = sheet(strips)
    with atomic_file(path) as partial:
        partial.write_bytes(png_bytes(enlarge(stacked, 2 * len(stacked))))


def _understood(
    settings: DemoSettings, models: dict[str, CMMixerForRetrieval], extractor: CMMixerFeatureExtractor
) -> dict[str, dict[str, dict[str, Any]]]:
    """What each model distinguishes in the held-out made clips; for a user's own clips this is not known."""
    if settings.videos is not None:
        return {}
    world = World(settings.seed)
    indices = range(settings.clips, settings.clips + min(settings.held_out, MOST_TWINS))
    return {
        name: {kind: score.to_dict() for kind, score in score_understanding(model, world, indices, extractor).items()}
        for name, model in models.items()
    }


def _twin_rows(twins: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, str | float]]:
    rows: list[dict[str, str | float]] = []
    for model, kinds in twins.items():
        rows.append({"model": model, **{kind: str(Score.from_dict(score)) for kind, score in kinds.items()}})
    return [*rows, {"model": "chance"} | dict.fromkeys(TWINS, 50.0)] if rows else []


def _score_rows(scores: dict[str, dict[str, Any]]) -> list[dict[str, str | float]]:
    rows: list[dict[str, str | float]] = []
    for direction in DIRECTIONS:
        for model in scores:
            rows.append({"direction": NAMES[direction], "model": model, **scores[model][direction]})
        rows.append({"direction": NAMES[direction], "model": "chance", **scores["trained"]["chance"]})
    return rows


def _table(rows: list[dict[str, str | float]]) -> str:
    """Rows as aligned text."""
    cells = [
        list(rows[0]),
        *([f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows),
    ]
    return aligned(cells, ">" * len(cells[0]))


def _notes(settings: DemoSettings, training: PreparedClips, held_out: PreparedClips, prepared: Prepared) -> list[str]:
    """Remarks on what the numbers show."""
    notes = []
    if len(held_out) < FEW_CLIPS:
        notes.append(
            f"{len(held_out)} held-out clips say almost nothing: one clip more or less is {100 / len(held_out):.0f} "
            f"points of R@1, and R@{min(10, len(held_out))} is {100 * min(1, 10 / len(held_out)):.0f} % by chance. "
            f"{len(training)} clips are far too few to learn from scratch: this run shows that your files go through "
            "every stage, not what the method can do."
        )
    if prepared.errors:
        notes.append(f"{len(prepared.errors)} files were left out; the reasons stand above.")
    if settings.videos is None:
        notes.append(
            "The clips are made: the tables say what was learned of them beside what needs no model, not what "
            "the method reaches on real music."
        )
    return notes


def _lead(settings: DemoSettings, training: PreparedClips, held_out: PreparedClips) -> str:
    origin = "made from a seed" if settings.videos is None else f"from {settings.videos}"
    return (
        f"A small CMMixer was pre-trained on {len(training)} clips {origin}, fine-tuned for retrieval on the same, and "
        f"asked for the soundtrack of {len(held_out)} clips it had never seen, among the soundtracks of all of these."
    )


def _facts(settings: DemoSettings, training: PreparedClips, held_out: PreparedClips, seconds: float) -> dict[str, str]:
    return {
        "clips to train on": str(len(training)),
        "clips to search among": str(len(held_out)),
        "seed": str(settings.seed),
        "minutes": f"{seconds / 60:.1f}",
        "versions": ", ".join(f"{package} {version}" for package, version in package_versions().items()),
    }


def _command(settings: DemoSettings) -> str:
    default = DemoSettings()
    changed = [name for name, value in vars(settings).items() if value != getattr(default, name)]
    return " ".join(["cmmixer demo", *(f"--{name} {getattr(settings, name)}" for name in changed)])
