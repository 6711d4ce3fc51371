"""The README of prepared clips: what a folder of shards holds, counted, and how the Hub is to read it."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData

CARD_TEMPLATE = Path(__file__).with_suffix(".md")
SHARDS = "part-*.parquet"
CARD_COLUMNS = ["track_id", "labels", "split", "duration", "num_segments", "frame_shape", "frame_codec", "error"]
# What a recipe needs of a clip → what its clips have, and what there is of each.
CONTENTS = {
    "both": ("picture and sound", "{} frames and the sound around each of them"),
    "video": ("picture", "{} frames"),
    "audio": ("sound", "{} windows of sound"),
}
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def write_dataset_card(folder: str | Path, *, name: str | None = None, license: str | None = None) -> Path:
    """Write the `README.md` of a folder of prepared clips; with it the Hub and `load_dataset` find the shards.

    Args:
        folder: what `cmmixer prepare` left.
        name: on the Hub (`you/clips`); the folder's name by default.
        license: of the media, by its id on the Hub; who shares them must know it.

    Raises:
        ValueError: there are no shards.
    """
    target = Path(folder) / "README.md"
    dataset_card(folder, name=name, license=license).save(target)
    return target


def dataset_card(folder: str | Path, *, name: str | None = None, license: str | None = None) -> DatasetCard:
    """The card of a folder of prepared clips, not written anywhere."""
    folder = Path(folder)
    shards = sorted(folder.glob(SHARDS))
    if not shards:
        raise ValueError(f"{folder} holds no {SHARDS}: make them with `cmmixer prepare`")
    rows = pa.concat_tables(pq.read_table(shard, columns=CARD_COLUMNS) for shard in shards).to_pylist()
    usable = [row for row in rows if row["error"] is None]
    splits = Counter(row["split"] for row in usable if row["split"])
    labels = {label for row in usable for label in row["labels"] or ()}
    segments = " or ".join(map(str, sorted({row["num_segments"] for row in usable})))
    what, parts = CONTENTS[_need(folder)]
    data = DatasetCardData(
        license=license,
        pretty_name=name or folder.resolve().name,
        size_categories=[next((size for limit, size in SIZES.items() if len(usable) < limit), "n>1M")],
        tags=["video", "audio", "cmmixer"],
        configs=[{"config_name": "default", "data_files": SHARDS}],
    )
    return DatasetCard.from_template(
        data,
        template_path=str(CARD_TEMPLATE),
        name=name or folder.resolve().name,
        usable=f"{len(usable):,}",
        left_out=len(rows) - len(usable),
        hours=f"{sum(row['duration'] for row in usable) / 3600:.1f}",
        tracks=f"{len({row['track_id'] for row in usable}):,}",
        what=what,
        parts=parts.format(segments),
        segments=segments,
        codec=_codecs(usable),
        splits=", ".join(f"{split}: {count:,}" for split, count in sorted(splits.items())),
        labels=f"{len(labels):,}" if labels else "",
        size=_bytes(sum(shard.stat().st_size for shard in shards)),
        shards=len(shards),
    )


def _need(folder: Path) -> str:
    """What the clips were prepared with, a key of [`CONTENTS`]."""
    claim = folder / "prepared.json"
    recipe = json.loads(claim.read_text(encoding="utf-8")).get("recipe", {}) if claim.is_file() else {}
    return recipe.get("need", "both")


def _codecs(rows: list[dict]) -> str:
    """How frames are coded, and how large the most frequent ones are; empty where the clips have none."""
    kinds = Counter((tuple(row["frame_shape"]), row["frame_codec"]) for row in rows if row["frame_shape"])
    return "".join(f"most often {high} × {wide} pixels, {codec}" for ((high, wide), codec), _ in kinds.most_common(1))


def _bytes(count: float) -> str:
    """
    >>> _bytes(2_500_000)
    '2.5 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
