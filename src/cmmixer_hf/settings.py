"""What each verb of `cmmixer` can be set to; nothing here loads what does the work, so help comes at once.

A field is a flag (`flags.py`), its `help` the line beside it; a field without a default is a positional argument.
"""

from dataclasses import dataclass, field
from typing import Literal

SOURCE_FORMATS = (
    *(
        "auto",
        "folder",
        "classes",
        "manifest",
        "esc50",
        "audioset",
        "audioset-cut",
        "vggsound",
        "kinetics",
        "youtube8m",
        "mgsv",
    ),
    *("webdataset", "parquet", "videofolder", "audiofolder", "hub"),
)
POOL_SIZE = 2000  # candidates of a query, §4.4
SOURCE_HELP = (
    "folder of media files; CSV, TSV or JSONL with such columns as video, audio, track_id, label, split, fold, "
    "start, end; or what --format says"
)


@dataclass
class PrepareSettings:
    """Decode clips once, into Parquet shards to train on; the same command again goes on where one stopped."""

    source: str = field(metadata={"help": SOURCE_HELP})
    output: str = field(metadata={"help": "folder for the shards"})
    format: str = field(
        default="auto", metadata={"help": "kind of source; auto looks at it", "choices": SOURCE_FORMATS}
    )
    media: str | None = field(default=None, metadata={"help": "folder of the files that a table names"})
    need: Literal["both", "video", "audio"] = field(
        default="both", metadata={"help": "what to take of each clip; a clip that lacks it is an error"}
    )
    keep_silent: bool = field(default=False, metadata={"help": "take clips whose sound is silent throughout"})
    num_frames: int = field(default=8, metadata={"help": "frames and windows of sound a clip"})
    window_seconds: float = field(default=2.6, metadata={"help": "seconds of a window of sound"})
    sampling_rate: int = field(default=16000, metadata={"help": "samples of sound a second"})
    shorter_side: int = field(default=256, metadata={"help": "pixels that frames are scaled down to"})
    frames: Literal["raw", "jpeg"] = field(
        default="raw", metadata={"help": "raw is quickest to load, jpeg takes a fifteenth of the space"}
    )
    jpeg_quality: int = field(default=3, metadata={"help": "FFmpeg's: 1 is best, 31 is smallest"})
    splits: str | None = field(
        default=None, metadata={"help": "such as train=0.8,test=0.2: split by track and group, so that none leaks"}
    )
    select: float | None = field(
        default=None,
        metadata={
            "help": "take a share (0.05) or a number (100000) of the clips, at random and evenly from all labels"
        },
    )
    with_sound: bool = field(
        default=False, metadata={"help": "take or select clips alone whose sound is not silent throughout"}
    )
    seed: int = field(default=0, metadata={"help": "of the splits and of what is selected"})
    deduplicate: bool = field(default=False, metadata={"help": "leave out clips whose files hold the same bytes"})
    num_workers: int | None = field(
        default=None,
        metadata={"help": "decoding processes, one a core by default; with 0 a crash of the decoder ends the run"},
    )
    seconds_per_clip: float = field(default=float("inf"), metadata={"help": "after which a process gives a clip up"})
    clips_per_shard: int = field(default=64, metadata={"help": "clips a file"})
    shard: str = field(default="0/1", metadata={"help": "i/n: this is job i, from 0 on, of n that fill one folder"})
    on_error: Literal["skip", "fail"] = field(default="skip", metadata={"help": "what to do at a clip that is no use"})
    dry_run: bool = field(default=False, metadata={"help": "show what was found and stop"})
    skip_survey: bool = field(default=False, metadata={"help": "do not look into every file before work begins"})


@dataclass
class RayPrepareSettings(PrepareSettings):
    """Do what prepare does on a Ray cluster (extra [ray]); --num_workers counts the cores of one started here."""


@dataclass
class EvaluateSettings:
    """Score a retrieval model or a classifier on prepared clips."""

    shards: str = field(
        metadata={"help": "folder that `cmmixer prepare` wrote; for a model of another family the files themselves"}
    )
    model: str = field(
        metadata={"help": "folder or Hub name of a fine-tuned model, or of another family that embeds video and audio"}
    )
    output: str = field(default="evaluation.json", metadata={"help": "JSON file for the results"})
    split: str | None = field(default=None, metadata={"help": "evaluate the clips of this split alone"})
    fold: int | None = field(default=None, metadata={"help": "evaluate the clips of this fold alone"})
    pool_size: int = field(default=POOL_SIZE, metadata={"help": "candidates of a query; more clips make several pools"})
    similarity: Literal["segments", "pooled"] = field(default="segments", metadata={"help": "how two clips compare"})
    average_views: bool = field(default=False, metadata={"help": "average predictions over the clips of one file"})
    batch_size: int = field(default=32, metadata={"help": "clips at a time"})
    resamples: int = field(default=1000, metadata={"help": "of the bootstrap that gives the intervals"})
    seed: int = field(default=0, metadata={"help": "of the pools and of the bootstrap"})


@dataclass
class IndexSettings:
    """Embed a library of tracks or clips and write an index of them, or bring an index up to date.

    What is not given stays as the index has it.
    """

    library: str = field(metadata={"help": "folder of media files, or a CSV or JSONL with a column `path`"})
    index: str = field(metadata={"help": "folder of the index"})
    model: str = field(
        metadata={
            "help": "folder or Hub name of a retriever of this package, of PE-AV, of CLAP, or of a Sentence "
            "Transformer that takes video or audio"
        }
    )
    modality: Literal["audio", "video"] | None = field(
        default=None, metadata={"help": "what to embed of each file: audio (default) or video"}
    )
    section_seconds: float | None = field(
        default=None,
        metadata={"help": "cut longer files into sections of so many seconds, 30 by default; 0: never cut"},
    )
    section_hop: float | None = field(
        default=None, metadata={"help": "seconds between the starts of sections; half of one by default"}
    )
    num_segments: int | None = field(
        default=None, metadata={"help": "parts of a section that a model of one vector embeds one by one, 3 by default"}
    )
    index_type: Literal["flat", "ivf", "hnsw"] | None = field(
        default=None, metadata={"help": "flat (exact, the default), or for millions ivf or hnsw"}
    )
    compute: Literal["float32", "bfloat16", "int8"] = field(
        default="float32",
        metadata={
            "help": "what the model computes in: less than float32 embeds more sections a second; bfloat16 where the "
            "processor has it, int8 on a CPU that has not"
        },
    )
    precision: Literal["float16", "int8", "float32"] | None = field(
        default=None,
        metadata={"help": "of the embeddings of segments: float16 by default; int8 takes half of its space"},
    )
    uri: str | None = field(
        default=None, metadata={"help": "keep the items in Milvus: http://host:port, or a FILE.db of this machine"}
    )
    collection: str | None = field(default=None, metadata={"help": "Milvus collection, `cmmixer` by default"})
    remove_vanished: bool = field(
        default=False, metadata={"help": "take files out of the index that the library does not have any more"}
    )
    content_hash: bool = field(
        default=False, metadata={"help": "know files again by their content, not by size and time of change"}
    )
    measure: Literal["all", "tags", "none"] = field(
        default="all",
        metadata={
            "help": "what to find out of each file beside: tags and duration, without decoding; or all: loudness "
            "and tempo too, by one more pass over its sound"
        },
    )
    batch_size: int = field(default=32, metadata={"help": "sections that the model embeds at once"})
    num_workers: int = field(default=2, metadata={"help": "decoding threads a process"})


@dataclass
class SearchSettings:
    """Rank the items of an index for one or several files."""

    queries: list[str] = field(
        metadata={"nargs": "*", "help": "video or audio files; FILE:audio asks by the sound of a video"}
    )
    index: str = field(metadata={"help": "folder that `cmmixer index` wrote"})
    text: str | None = field(
        default=None,
        metadata={"help": "words for what is looked for, alone or beside files, where the index's model knows words"},
    )
    plus: list[str] = field(
        default_factory=list,
        metadata={"help": "what is wanted too, FILE[:video|audio][:WEIGHT] or text:WORDS[:WEIGHT]; may be given again"},
    )
    minus: list[str] = field(default_factory=list, metadata={"help": "what is not wanted, written as for --plus"})
    where: list[str] = field(
        default_factory=list,
        metadata={
            "help": "what an item must have: KEY=VALUE, KEY=LOW..HIGH, KEY<NUMBER, KEY>=NUMBER; may be given several "
            "times, and of several values of one key any will do"
        },
    )
    k: int = field(default=10, metadata={"aliases": ["-k"], "help": "items to show"})
    candidates: int = field(
        default=200,
        metadata={"help": "items, nearest by the mean of their segments, that are compared segment by segment"},
    )
    long_query: Literal["best", "parts"] = field(
        default="best",
        metadata={"help": "what answers a query longer than a section: the part of it that fits best, or each part"},
    )
    json: bool = field(default=False, metadata={"help": "print a line of JSON for each query instead of a table"})
    csv: str | None = field(default=None, metadata={"help": "write all that was found into a table, too"})
    m3u: str | None = field(
        default=None, metadata={"help": "write a playlist of it, which VLC plays from each section's second"}
    )
    picture: str | None = field(
        default=None, metadata={"help": "draw which parts of the query and of the best item are similar, as a PNG"}
    )
    model: str | None = field(
        default=None, metadata={"help": "the index's model, where it is not in its place any more"}
    )


@dataclass
class FitSettings:
    """Write a clip with a section of a track under it: cut on a beat, faded, as loud as the clip was."""

    video: str = field(metadata={"help": "clip whose picture is copied"})
    track: str = field(metadata={"help": "music, TRACK@M:SS: from which moment on; from its beginning without one"})
    output: str = field(metadata={"help": "MP4 to write"})
    duck: bool = field(
        default=False, metadata={"help": "keep the clip's own sound and make the music lower under it, not replace it"}
    )
    loudness: float | None = field(
        default=None, metadata={"help": "of the music in LUFS; by default the clip's own, or -16 where it is silent"}
    )


@dataclass
class PageSettings:
    """Serve a page to search with, and its functions as tools for programs."""

    music: str = field(default="", metadata={"help": "index of tracks, which `cmmixer index` wrote"})
    footage: str = field(default="", metadata={"help": "index of clips: `cmmixer index … --modality video`"})
    model: str = field(default="", metadata={"help": "the indexes' model, where it is not in its place any more"})
    pretrained: str = field(default="", metadata={"help": "pre-trained model, to show mixture and reconstruction"})
    port: int = field(default=7860, metadata={"help": "of the page"})
    host: str = field(default="127.0.0.1", metadata={"help": "this machine alone; 0.0.0.0 lets others in"})
    mcp: bool = field(default=False, metadata={"help": "serve the page's functions as MCP tools, too (extra `mcp`)"})


@dataclass
class CardSettings:
    """Write the README of a model's folder, or of prepared clips, from what lies in it."""

    folder: str = field(metadata={"help": "folder of a saved model, or of prepared shards"})
    name: str | None = field(default=None, metadata={"help": "name on the Hub, such as you/model"})
    license: str | None = field(
        default=None, metadata={"help": "licence of the weights or of the media, as the Hub calls it"}
    )


@dataclass
class ConvertSettings:
    """Turn MAE's, ViTMAE's or the released CMMixer's or CAV-MAE's weights into ours, with a report of every key."""

    source: str = field(
        metadata={"help": "file, folder or Hub name of MAE's, ViTMAE's or the released CMMixer's or CAV-MAE's weights"}
    )
    output_dir: str = field(metadata={"help": "folder for the model, its feature extractor and the report"})
    decoder_type: Literal["solo", "duet"] = field(default="solo", metadata={"help": "of the pre-training head"})
    keep_decoder: bool = field(
        default=True, metadata={"help": "take over the decoder's sizes; else the paper's 256 × 4"}
    )
    architecture: Literal["cmmixer", "cav_mae"] = field(
        default="cmmixer", metadata={"help": "what MAE's or ViTMAE's weights become"}
    )
    classifier_stream: Literal["joint", "audio", "video"] = field(
        default="joint", metadata={"help": "what a fine-tuned CAV-MAE listens to"}
    )


@dataclass
class DemoSettings:
    """Make clips, pre-train, fine-tune, index and search, and write a report to look at."""

    output: str = field(default="demo/seed-0", metadata={"help": "folder for everything that is made"})
    videos: str | None = field(default=None, metadata={"help": "folder of your own clips instead of made ones"})
    seed: int = field(default=0, metadata={"help": "of the clips and of the training"})
    clips: int = field(default=4000, metadata={"help": "made clips to train on"})
    held_out: int = field(default=256, metadata={"help": "made clips to search among"})
    pretraining_samples: int = field(
        default=56000, metadata={"help": "clips seen in pre-training, with repetition; 0 skips it"}
    )
    finetuning_samples: int = field(default=24000, metadata={"help": "clips seen in fine-tuning, with repetition"})
    token_drop_rate: float = field(
        default=0.0, metadata={"help": "share of a clip's tokens left out in fine-tuning: faster, and sees less"}
    )
    queries: int = field(default=6, metadata={"help": "queries shown in the report"})
