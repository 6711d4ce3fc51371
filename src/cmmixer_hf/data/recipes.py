"""One clip → one row of a shard: the pure function that every way of preparing runs, here or on a cluster.

A row takes K · height · width · 3 bytes for raw frames, about a fifteenth of that as JPEG, and K · samples · 2 bytes
for the sound. With the defaults a 16:9 clip is 2.8 MB of frames (0.2 MB as JPEG) and 0.67 MB of sound.
"""

import math
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ..files import readable
from ..media.jpeg import BEST_QUALITY, WORST_QUALITY, encode_pictures
from ..media.reading import Clip, MediaError, Sampling, read_clip
from .clips import LARGEST_FOLD, ClipSpec, Section, clip_of_file, fault, local_file, name_of
from .prepared_clips import SHARD_SCHEMA

# Peak of a window under this (−80 dB) is silence: nothing to learn from, and never a match for a picture.
SILENCE_PEAK = 1e-4

AnyClip = ClipSpec | str | os.PathLike[str]
ShardRow = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What becomes of a clip.

    Args:
        sampling: frames and windows of sound to take.
        need: "both" picture and sound, "video" or "audio": missing, it is an error; what is not needed is not read.
        keep_silent: accept sound that is silent throughout.
        frame_codec: "raw" or "jpeg".
        jpeg_quality: FFmpeg's, 1 (best) to 31.
        clips_per_shard: rows of a Parquet file.
        on_error: "skip" writes down why a clip cannot be used and goes on, "fail" stops.
        seconds_per_clip: time limit for a clip, where it is read in a process of its own.
    """

    sampling: Sampling = field(default_factory=Sampling)
    need: Literal["both", "video", "audio"] = "both"
    keep_silent: bool = False
    frame_codec: Literal["raw", "jpeg"] = "raw"
    jpeg_quality: int = 3
    clips_per_shard: int = 64
    on_error: Literal["skip", "fail"] = "skip"
    seconds_per_clip: float = math.inf

    def __post_init__(self) -> None:
        if self.clips_per_shard < 1 or not self.seconds_per_clip > 0:
            given = f"{self.clips_per_shard} clips a shard, {self.seconds_per_clip} seconds a clip"
            raise ValueError(f"a shard needs at least one clip, and a clip more than no time; got {given}")
        if not BEST_QUALITY <= self.jpeg_quality <= WORST_QUALITY:
            raise ValueError(f"JPEG quality is {BEST_QUALITY} (best) to {WORST_QUALITY}, got {self.jpeg_quality}")

    def content(self) -> dict[str, Any]:
        """What decides on the content of finished shards, ready for JSON."""
        settings = {name: value for name, value in asdict(self).items() if name not in {"on_error", "seconds_per_clip"}}
        settings["sampling"]["version"] = self.sampling.version
        return settings


def prepare_clip(clip: AnyClip, recipe: Recipe | Sampling) -> ShardRow:
    """One row of a shard (`data.SHARD_SCHEMA`). Never raises for a bad file or row: it carries the `error`."""
    clip = clip if isinstance(clip, ClipSpec) else clip_of_file(clip)
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    if (reason := fault(clip)) is not None:
        return error_row(clip, reason)
    try:
        read = _read(clip, recipe)
    except MediaError as error:
        return error_row(clip, str(error))
    frames, waveforms = read.frames, read.waveforms
    facts = {"duration": read.duration, "damage": read.damage, "num_segments": recipe.sampling.num_frames}
    row = _known(clip) | facts
    if frames is not None:
        jpeg = recipe.frame_codec == "jpeg"
        pictures = encode_pictures(frames, recipe.jpeg_quality) if jpeg else [frame.tobytes() for frame in frames]
        row |= {"frames": pictures, "frame_shape": list(frames.shape[1:3]), "frame_codec": recipe.frame_codec}
    if waveforms is not None:
        row["waveforms"] = (waveforms.clip(-1, 1) * 32767).round().astype(np.int16).tobytes()
    return row


def has_sound(clip: ClipSpec, recipe: Recipe) -> bool:
    """Whether a clip has sound that is not silent throughout."""
    try:
        return fault(clip) is None and bool(_read_section(clip.sound, recipe, video=False, audio=True))
    except MediaError:
        return False


def error_row(clip: ClipSpec, error: str) -> ShardRow:
    """The row of a clip that cannot be used."""
    known = _known(clip)
    fold = None if clip.fold is None or abs(clip.fold) > LARGEST_FOLD else clip.fold
    texts = {name: readable(value) for name, value in known.items() if isinstance(value, str)}
    return (
        known | texts | {"labels": [readable(label) for label in clip.labels], "fold": fold, "error": readable(error)}
    )


def _known(clip: ClipSpec) -> ShardRow:
    """All columns, filled with what is known before decoding."""
    separate = name_of(clip.sound[0]) if clip.sound[0] != clip.picture[0] else None
    known = {"path": clip.path, "audio_path": separate, "audio_start": clip.sound[1], "labels": list(clip.labels)}
    same = {name: getattr(clip, name) for name in ("clip_id", "track_id", "split", "fold", "start")}
    return dict.fromkeys(SHARD_SCHEMA.names) | same | known


def _read(clip: ClipSpec, recipe: Recipe) -> Clip:
    """Frames, waveforms and seconds of a clip, what the recipe does not need being None."""
    video, audio = recipe.need != "audio", recipe.need != "video"
    if video and audio and clip.picture != clip.sound:
        picture = _read_section(clip.picture, recipe, video=True, audio=False)
        sound = _read_section(clip.sound, recipe, video=False, audio=True)
        return replace(picture, waveforms=sound.waveforms, damage=picture.damage + sound.damage)
    return _read_section(clip.picture if video else clip.sound, recipe, video=video, audio=audio)


def _read_section(section: Section, recipe: Recipe, *, video: bool, audio: bool) -> Clip:
    media, start, end = section
    with local_file(media) as path:
        clip = read_clip(path, recipe.sampling, start=start, end=end, video=video, audio=audio)
    silent = clip.waveforms is not None and np.abs(clip.waveforms).max() < SILENCE_PEAK
    if silent and not recipe.keep_silent:
        reason = "its sound is silent throughout, in the windows that are taken of it"
        raise MediaError(name_of(media), reason, "leave it out of training for retrieval")
    return clip
