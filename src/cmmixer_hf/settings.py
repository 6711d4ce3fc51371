"""What each verb of `cmmixer` can be set to; nothing here loads what does the work, so help comes at once.

A field is a flag (`flags.py`), its `help` the words beside it; a field without a default is a positional argument.
"""

from dataclasses import dataclass, field
from typing import Literal

from .flags import Settings, setting

SOURCE_FORMATS = (
    *("auto", "folder", "classes", "manifest", "esc50", "audioset", "audioset-cut", "vggsound", "kinetics"),
    *("youtube8m", "mgsv", "webdataset", "parquet", "videofolder", "audiofolder", "hub"),
)
POOL_SIZE = 2000  # candidates of a query, §4.4
SOURCE_HELP = (
    "folder of media files; CSV, TSV or JSONL with such columns as video, audio, track_id, label, split, fold, "
    "start, end; or what --format says"
)


@dataclass
class PrepareSettings(Settings):
    """Decode clips once, into Parquet shards to train on; the same command again goes on where one stopped."""

    source: str = field(metadata={"help": SOURCE_HELP})
    output: str = field(metadata={"help": "folder for the shards"})
    format: str = setting("auto", "kind of source; auto looks at it", choices=SOURCE_FORMATS)
    media: str | None = setting(None, "folder of the files that a table names")
    need: Literal["both", "video", "audio"] = setting(
        "both", "what to take of each clip; a clip that lacks it is an error"
    )
    keep_silent: bool = setting(False, "take clips whose sound is silent throughout")
    num_frames: int = setting(8, "frames and windows of sound a clip")
    window_seconds: float = setting(2.6, "seconds of a window of sound")
    sampling_rate: int = setting(16000, "samples of sound a second")
    shorter_side: int = setting(256, "pixels that frames are scaled down to")
    frames: Literal["raw", "jpeg"] = setting("raw", "raw is quickest to load, jpeg takes a fifteenth of the space")
    jpeg_quality: int = setting(3, "FFmpeg's: 1 is best, 31 is smallest")
    splits: str | None = setting(None, "such as train=0.8,test=0.2: split by track and group, so that none leaks")
    select: float | None = setting(
        None, "take a share (0.05) or a number (100000) of the clips, at random and evenly from all labels"
    )
    with_sound: bool = setting(False, "take or select clips alone whose sound is not silent throughout")
    seed: int = setting(0, "of the splits and of what is selected", least=0)
    deduplicate: bool = setting(False, "leave out clips whose files hold the same bytes")
    num_workers: int | None = setting(
        None, "decoding processes, one a core by default; with 0 a crash of the decoder ends the run"
    )
    seconds_per_clip: float = setting(float("inf"), "after which a process gives a clip up")
    clips_per_shard: int = setting(64, "clips a file")
    shard: str = setting("0/1", "i/n: this is job i, from 0 on, of n that fill one folder")
    on_error: Literal["skip", "fail"] = setting("skip", "what to do at a clip that is no use")
    dry_run: bool = setting(False, "show what was found and stop")
    skip_survey: bool = setting(False, "do not look into every file before work begins")


@dataclass
class RayPrepareSettings(PrepareSettings):
    """Do what prepare does on a Ray cluster (extra [ray]); --num_workers counts the cores of one started here."""


@dataclass
class EvaluateSettings(Settings):
    """Score a retrieval model or a classifier on prepared clips."""

    shards: str = field(
        metadata={"help": "folder that `cmmixer prepare` wrote; for a model of another family the files themselves"}
    )
    model: str = field(
        metadata={"help": "folder or Hub name of a fine-tuned model, or of another family that embeds video and audio"}
    )
    output: str = setting("evaluation.json", "JSON file for the results")
    split: str | None = setting(None, "evaluate the clips of this split alone")
    fold: int | None = setting(None, "evaluate the clips of this fold alone")
    pool_size: int = setting(POOL_SIZE, "candidates of a query; more clips make several pools", least=1)
    similarity: Literal["segments", "pooled"] = setting("segments", "how two clips compare")
    average_views: bool = setting(False, "average predictions over the clips of one file")
    batch_size: int = setting(32, "clips at a time", least=1)
    resamples: int = setting(1000, "of the bootstrap that gives the intervals", least=1)
    seed: int = setting(0, "of the pools and of the bootstrap", least=0)


@dataclass
class IndexSettings(Settings):
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
    modality: Literal["audio", "video"] | None = setting(None, "what to embed of each file: audio (default) or video")
    section_seconds: float | None = setting(
        None, "cut longer files into sections of so many seconds, 30 by default; 0: never cut"
    )
    section_hop: float | None = setting(None, "seconds between the starts of sections; half of one by default")
    num_segments: int | None = setting(
        None, "parts of a section that a model of one vector embeds one by one, 3 by default", least=1
    )
    index_type: Literal["flat", "ivf", "hnsw"] | None = setting(
        None, "flat (exact, the default), or for millions ivf or hnsw"
    )
    compute: Literal["float32", "bfloat16", "int8"] = setting(
        "float32",
        "what the model computes in: less than float32 embeds more sections a second; bfloat16 where the "
        "processor has it, int8 on a CPU that has not",
    )
    precision: Literal["float16", "int8", "float32"] | None = setting(
        None, "of the embeddings of segments: float16 by default; int8 takes half of its space"
    )
    uri: str | None = setting(None, "keep the items in Milvus: http://host:port, or a FILE.db of this machine")
    collection: str | None = setting(None, "Milvus collection, `cmmixer` by default")
    remove_vanished: bool = setting(False, "take files out of the index that the library does not have any more")
    content_hash: bool = setting(False, "know files again by their content, not by size and time of change")
    measure: Literal["all", "tags", "none"] = setting(
        "all",
        "what to find out of each file beside: tags and duration, without decoding; or all: loudness "
        "and tempo too, by one more pass over its sound",
    )
    batch_size: int = setting(32, "sections that the model embeds at once", least=1)
    num_workers: int = setting(2, "decoding threads a process", least=1)


@dataclass
class SearchSettings(Settings):
    """Rank the items of an index for one or several files."""

    queries: list[str] = field(
        metadata={"nargs": "*", "help": "video or audio files; FILE:audio asks by the sound of a video"}
    )
    index: str = field(metadata={"help": "folder that `cmmixer index` wrote"})
    text: str | None = setting(
        None, "words for what is looked for, alone or beside files, where the index's model knows words"
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
    k: int = setting(10, "items to show", aliases=["-k"])
    candidates: int = setting(
        200, "items, nearest by the mean of their segments, that are compared segment by segment", least=1
    )
    long_query: Literal["best", "parts"] = setting(
        "best", "what answers a query longer than a section: the part of it that fits best, or each part"
    )
    json: bool = setting(False, "print a line of JSON for each query instead of a table")
    csv: str | None = setting(None, "write all that was found into a table, too")
    m3u: str | None = setting(None, "write a playlist of it, which VLC plays from each section's second")
    picture: str | None = setting(None, "draw which parts of the query and of the best item are similar, as a PNG")
    model: str | None = setting(None, "the index's model, where it is not in its place any more")


@dataclass
class FitSettings(Settings):
    """Write a clip with a section of a track under it: cut on a beat, faded, as loud as the clip was."""

    video: str = field(metadata={"help": "clip whose picture is copied"})
    track: str = field(metadata={"help": "music, TRACK@M:SS: from which moment on; from its beginning without one"})
    output: str = field(metadata={"help": "MP4 to write"})
    duck: bool = setting(False, "keep the clip's own sound and make the music lower under it, not replace it")
    loudness: float | None = setting(None, "of the music in LUFS; by default the clip's own, or -16 where it is silent")


@dataclass
class PageSettings(Settings):
    """Serve a page to search with, and its functions as tools for programs."""

    music: str = setting("", "index of tracks, which `cmmixer index` wrote")
    footage: str = setting("", "index of clips: `cmmixer index … --modality video`")
    model: str = setting("", "the indexes' model, where it is not in its place any more")
    pretrained: str = setting("", "pre-trained model, to show mixture and reconstruction")
    port: int = setting(7860, "of the page")
    host: str = setting("127.0.0.1", "this machine alone; 0.0.0.0 lets others in")
    mcp: bool = setting(False, "serve the page's functions as MCP tools, too (extra `mcp`)")


@dataclass
class CardSettings(Settings):
    """Write the README of a model's folder, or of prepared clips, from what lies in it."""

    folder: str = field(metadata={"help": "folder of a saved model, or of prepared shards"})
    name: str | None = setting(None, "name on the Hub, such as you/model")
    license: str | None = setting(None, "licence of the weights or of the media, as the Hub calls it")


@dataclass
class DoctorSettings(Settings):
    """Check versions, devices, decoders and extras, and that clips, models and the cache work."""

    json: bool = setting(False, "print JSON instead of text")


@dataclass
class ConvertSettings(Settings):
    """Turn MAE's, ViTMAE's or the released CMMixer's or CAV-MAE's weights into ours, with a report of every key."""

    source: str = field(
        metadata={"help": "file, folder or Hub name of MAE's, ViTMAE's or the released CMMixer's or CAV-MAE's weights"}
    )
    output_dir: str = field(metadata={"help": "folder for the model, its feature extractor and the report"})
    decoder_type: Literal["solo", "duet"] = setting("solo", "of the pre-training head")
    keep_decoder: bool = setting(True, "take over the decoder's sizes; else the paper's 256 × 4")
    architecture: Literal["cmmixer", "cav_mae"] = setting("cmmixer", "what MAE's or ViTMAE's weights become")
    classifier_stream: Literal["joint", "audio", "video"] = setting("joint", "what a fine-tuned CAV-MAE listens to")


@dataclass
class DemoSettings(Settings):
    """Make clips, pre-train, fine-tune, index and search, and write a report to look at."""

    output: str = setting("demo/seed-0", "folder for everything that is made")
    videos: str | None = setting(None, "folder of your own clips instead of made ones")
    seed: int = setting(0, "of the clips and of the training", least=0)
    clips: int = setting(4000, "made clips to train on", least=1)
    held_out: int = setting(256, "made clips to search among", least=2)
    pretraining_samples: int = setting(56000, "clips seen in pre-training, with repetition; 0 skips it", least=0)
    finetuning_samples: int = setting(24000, "clips seen in fine-tuning, with repetition", least=1)
    token_drop_rate: float = setting(0.0, "share of a clip's tokens left out in fine-tuning: faster, and sees less")
    queries: int = setting(6, "queries shown in the report", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.token_drop_rate < 1:  # it would be found out minutes later
            raise ValueError(f"token_drop_rate must lie in [0, 1), got {self.token_drop_rate}")
