"""Scenes to pixels and samples: `render_frames` and `render_sound`, pure functions of a `Scene`."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .scenes import (
    LOWEST_PITCH,
    SEMITONES,
    Backdrop,
    Backing,
    Extra,
    Floats,
    Look,
    Part,
    Scene,
    colour,
    floats,
    height_curve,
    loudness_curve,
    place_curve,
    sway_curve,
    turn_curve,
)

Pixels = NDArray[np.uint8]

REST_LIGHT = 0.3  # how bright a silent object still is: its place and shape can always be seen
BOTTOM, TOP = 0.8, 0.2  # where heights 0 and 1 lie, as a fraction of the frame from its upper edge
CYCLES, TABLE = 5, 8192  # all partials are multiples of 1/5 of the pitch: five periods make one wave table
TREMOLO_RATE = 7.0  # Hz

# --- picture ---------------------------------------------------------------------------------------------------------


class Sprite(NamedTuple):
    """What `_paint` needs of an object: (frames,) in frame sizes and radians; tint (frames, 3) and light in [0, 1]."""

    identity: str
    x: Floats
    y: Floats
    radius: Floats
    angle: Floats
    tint: Floats
    light: Floats


def render_frames(scene: Scene, *, fps: int = 10, size: int = 64, times: Floats | None = None) -> Pixels:
    """Render the picture: (frames, size, size, 3) RGB. Frame i shows `times[i]` s, by default (i + ½) / fps."""
    if times is None:
        times = floats((np.arange(round(scene.duration * fps)) + 0.5) / fps)
    sprites = [_mute_sprite(scene, extra, times) for extra in scene.extras]
    sprites += [_sounding_sprite(scene, part, look, times) for part, look in zip(scene.parts, scene.looks, strict=True)]
    margin = math.ceil(size * 0.45)  # no sprite reaches further out of the frame
    canvas = np.empty((len(times), size + 2 * margin, size + 2 * margin, 3), np.uint8)
    flicker = np.rint(_follow(scene.backdrop.flicker, times, scene.duration)).astype(np.int8).view(np.uint8)
    _paint_backdrop(canvas[:, margin:-margin, margin:-margin], scene.backdrop, times, flicker)
    for sprite in sprites:
        _paint(canvas, sprite, margin, size)
    return np.ascontiguousarray(canvas[:, margin:-margin, margin:-margin])


def _sounding_sprite(scene: Scene, part: Part, look: Look, times: Floats) -> Sprite:
    lit = turn_curve(part, times)
    x = 0.22 + 0.56 * _follow(look.across, times, scene.duration) + 0.04 * sway_curve(part, times)
    y = BOTTOM + (TOP - BOTTOM) * place_curve(part, times)
    light = floats(REST_LIGHT + (1 - REST_LIGHT) * lit)
    tint = np.outer(light, colour(look.hue, 0.65, scene.backdrop.exposure))
    return Sprite(part.identity, x, y, 0.15 + 0.06 * lit, _lean(look, times), tint, lit)


def _mute_sprite(scene: Scene, extra: Extra, times: Floats) -> Sprite:
    beat = 1 - extra.pulse * (0.5 + 0.5 * np.sin(np.float32(2 * np.pi * extra.pulse_rate) * times))
    x = _follow(extra.look.across, times, scene.duration)
    y = 0.1 + 0.8 * _follow(extra.down, times, scene.duration)
    tint = np.outer(extra.light * (0.4 + 0.6 * beat), colour(extra.look.hue, 0.5, scene.backdrop.exposure))
    radius = extra.radius * (0.75 + 0.25 * beat)
    return Sprite(extra.identity, x, y, radius, _lean(extra.look, times), tint, extra.pulse * beat)


def _follow(knots: Floats, times: Floats, duration: float) -> Floats:
    """Follow a path of knots in [0, 1], slowing down at each."""
    place = times / duration * (len(knots) - 1)
    before = np.minimum(place.astype(int), len(knots) - 2)
    share = place - before
    return knots[before] + (knots[before + 1] - knots[before]) * share * share * (3 - 2 * share)


def _lean(look: Look, times: Floats) -> Floats:
    return np.float32(look.tilt) * np.sin(np.float32(2 * np.pi * look.tilt_rate) * times)


def _paint(canvas: Pixels, sprite: Sprite, margin: int, size: int) -> None:
    """Paint an object with a dark rim and a halo into `canvas` (frames, side, side, 3), in place.

    Only a patch around the object is touched, all frames at once.
    """
    radius = sprite.radius * size
    half = math.ceil(1.8 * float(radius.max()))
    left, top = (floats(margin + size * centre - half) for centre in (sprite.x, sprite.y))
    grid = np.arange(2 * half, dtype=np.float32) - half + 0.5
    x, y = (grid - (start % 1)[:, None] for start in (left, top))
    corners = list(zip(top.astype(int), left.astype(int), strict=True))
    patch = np.stack([canvas[i, r : r + 2 * half, c : c + 2 * half] for i, (r, c) in enumerate(corners)])
    painted = _shade(patch, sprite, x, y, radius[:, None, None])
    for i, (r, c) in enumerate(corners):
        canvas[i, r : r + 2 * half, c : c + 2 * half] = painted[i]


def _shade(patch: Pixels, sprite: Sprite, x: Floats, y: Floats, radius: Floats) -> Pixels:
    """Blend the object over `patch` (frames, side, side, 3); x and y (frames, side) are pixels from its centre."""
    cos, sin = np.cos(sprite.angle)[:, None], np.sin(sprite.angle)[:, None]
    unit = radius[:, 0]
    right = (cos * x / unit)[:, None, :] + (sin * y / unit)[:, :, None]
    down = (cos * y / unit)[:, :, None] - (sin * x / unit)[:, None, :]
    distance = SHAPES[sprite.identity](right, down) * radius  # pixels, negative inside
    body = np.clip(0.5 - distance, 0, 1)
    cover = np.clip(0.17 * radius - distance, 0, 0.7)
    np.maximum(cover, body, out=cover)
    halo = np.maximum(1 - (right * right + down * down) * np.float32(1 / 1.8**2), 0)
    light = body * (1 - np.float32(0.12) * (right + down))
    light += halo * halo * (1 - body) * (np.float32(0.7) * sprite.light[:, None, None])
    left_over = 1 - cover
    for channel in range(3):  # a loop, for numpy is slow along an axis of three
        blended = patch[..., channel] * left_over
        blended += light * np.float32(255 * sprite.tint[:, channel, None, None])
        patch[..., channel] = np.minimum(blended, 255, out=blended)
    return patch


def _paint_backdrop(frames: Pixels, backdrop: Backdrop, times: Floats, flicker: Pixels) -> None:
    """Fill `frames` (frames, size, size, 3) with the drifting texture and its grain, in place.

    Grain and flicker, (frames,) grey levels, are signed, added as unsigned bytes that wrap; the texture leaves room for
    them at both ends.
    """
    size = frames.shape[1]
    rng = np.random.default_rng(backdrop.seed)
    field = DRAWN_TEXTURES[backdrop.texture](rng, size)
    shades = np.stack([np.interp(field, (0, 0.5, 1), channel) for channel in backdrop.palette.T], axis=-1)
    tile = np.tile(np.uint8(18 + 215 * backdrop.exposure * shades), (2, 2, 1))
    grain = rng.normal(0, backdrop.grain, (2 * size, 2 * size, 1)).clip(-10, 10)
    grain = grain.astype(np.int8).view(np.uint8).repeat(3, axis=2)  # the same in each colour
    shifts = rng.integers(size, size=(len(times), 2))
    places = np.rint(np.outer(times, backdrop.drift) * size).astype(int) % size
    for frame, (c, r), (dc, dr), change in zip(frames, places, shifts, flicker, strict=True):
        np.add(tile[r : r + size, c : c + size], grain[dr : dr + size, dc : dc + size], out=frame)
        frame += change


def _waves(rng: np.random.Generator, size: int) -> Floats:
    """Bent stripes. Textures are periodic fields (size, size) in [0, 1], dark more often than light."""
    y, x = np.mgrid[:size, :size] / size
    across, down = rng.integers(1, 4), rng.integers(-3, 4)
    bend = 0.2 * np.sin(2 * np.pi * (rng.integers(1, 3) * y + rng.uniform()))
    return floats(0.5 + 0.4 * np.sin(2 * np.pi * (across * x + down * y + bend)))


def _clouds(rng: np.random.Generator, size: int) -> Floats:
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) / (1 + frequency**2) ** rng.uniform(0.7, 1.1)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(size, size))
    return floats(np.clip(0.45 + 0.2 * field / field.std(), 0, 1))


def _hills(rng: np.random.Generator, size: int) -> Floats:
    y, x = np.mgrid[:size, :size] / size
    across, down, along = (np.sin(2 * np.pi * (place + rng.uniform())) for place in (x, y, x + y))
    return floats(0.5 + (across + down + along) / 7)


def _dots(rng: np.random.Generator, size: int) -> Floats:
    count = rng.integers(4, 9)
    y, x = np.mgrid[:size, :size] / size * count
    shift = 0.5 * (np.floor(y) % 2) * (count % 2 == 0)
    reach = np.hypot((x + shift) % 1 - 0.5, y % 1 - 0.5)
    return floats(0.25 + 0.5 * np.clip((rng.uniform(0.2, 0.38) - reach) * size / count / 2 + 0.5, 0, 1))


DRAWN_TEXTURES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "waves": _waves,
    "clouds": _clouds,
    "hills": _hills,
    "dots": _dots,
}


def _disc(x: Floats, y: Floats) -> Floats:
    """Signed distance in radii, as for all shapes; each has the area of the unit disc, so that none is brighter."""
    return np.sqrt(x * x + y * y) - 1


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.886)


def _triangle(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.float32(0.866) * np.abs(x) - np.float32(0.5) * y, y) - np.float32(0.777)


def _star(x: Floats, y: Floats) -> Floats:
    """Five points: three mirrors fold the plane onto one half of a point, whose edge is a straight line."""
    x, y = np.abs(x), -y
    for side in (1, -1):
        # Behind a mirror at 54 or 126 degrees.
        behind = floats(np.maximum(np.float32(0.809 * side) * x - np.float32(0.588) * y, 0))
        x, y = x - np.float32(1.618 * side) * behind, y + np.float32(1.176) * behind
    return np.float32(0.897) * np.abs(x) + np.float32(0.443) * y - np.float32(0.647)


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.sqrt(x * x + y * y) - np.float32(0.95)) - np.float32(0.26)


def _cross(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - np.float32(1.2), np.minimum(x, y) - np.float32(0.4))


SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}


# --- sound -----------------------------------------------------------------------------------------------------------


class Timbre(NamedTuple):
    """Partials as (ratio to the pitch, amplitude), the first one the strongest, and depths of modulation."""

    partials: tuple[tuple[float, float], ...]
    tremolo: float = 0.0
    breath: float = 0.0


TIMBRES = {
    "disc": Timbre(((1, 1.0),)),
    "square": Timbre(tuple((n, 0.9 / n**0.8) for n in range(1, 14, 2))),  # a clarinet
    "triangle": Timbre(tuple((n, 1 / n) for n in range(1, 17))),  # a saw
    "star": Timbre(((1, 1.0), (2.4, 0.6), (3.8, 0.5), (5.4, 0.45), (7.2, 0.3), (9.4, 0.2))),  # a bell
    "ring": Timbre(((1, 1.0), (2, 0.5), (4, 0.35)), tremolo=0.85),
    "cross": Timbre(((1, 1.0), (2, 0.4), (3, 0.3), (4, 0.2)), breath=0.7),
}


def render_sound(scene: Scene, *, sampling_rate: int = 16000) -> Floats:
    """Render the sound: (round(duration * sampling_rate),) mono in [-1, 1]."""
    samples = round(scene.duration * sampling_rate)
    times = np.arange(samples, dtype=np.float32) / np.float32(sampling_rate)
    mix = np.zeros(samples, np.float32)
    for number, part in enumerate(scene.parts):  # each with its own noise: exchanging one part leaves the rest alone
        rng = np.random.default_rng((scene.backing.seed, number))
        mix += _play(part, times, sampling_rate, rng)
    rng = np.random.default_rng(scene.backing.seed)
    mix += np.float32(scene.backing.drone_level) * _drone(scene.backing, times)
    _add_hits(mix, scene.backing, sampling_rate, rng)
    return _record(mix, scene.backing, sampling_rate, rng)


def _play(part: Part, times: Floats, sampling_rate: int, rng: np.random.Generator) -> Floats:
    """One part alone, (samples,), of unit amplitude where it is loudest."""
    timbre = TIMBRES[part.identity]
    octaves = (SEMITONES * height_curve(part, times) + sway_curve(part, times)) / np.float32(12)
    phase = np.cumsum(LOWEST_PITCH / sampling_rate * np.exp2(octaves, dtype=np.float64))
    tables = _wave_tables(timbre.partials, sampling_rate)
    place = (phase * (TABLE / CYCLES)).astype(np.int64) % TABLE
    wave = tables[np.clip(octaves.astype(int), 0, len(tables) - 1), place]
    loud = loudness_curve(part, times) * np.exp2(np.float32(-0.3) * octaves)  # high notes sound louder
    if timbre.tremolo:
        loud *= 1 - np.float32(timbre.tremolo / 2) * (1 - np.cos(np.float32(2 * np.pi * TREMOLO_RATE) * times))
    if timbre.breath:
        knots = np.linspace(0, times[-1], len(times) * 1200 // sampling_rate, dtype=np.float32)  # noise up to 600 Hz
        loud *= 1 + np.interp(times, knots, rng.normal(0, timbre.breath, len(knots))).astype(np.float32)
    return wave * loud


def _wave_tables(partials: tuple[tuple[float, float], ...], sampling_rate: int) -> Floats:
    """(octaves, TABLE) waves of equal power: a higher octave leaves out the partials that would alias."""
    angle = np.arange(TABLE, dtype=np.float32) * np.float32(2 * np.pi * CYCLES / TABLE)
    tables = []
    for octave in range(math.ceil(SEMITONES / 12) + 1):
        highest = LOWEST_PITCH * 2 ** min(octave + 1, SEMITONES / 12)
        wave = sum(a * np.sin(np.float32(r) * angle) for r, a in partials if r == 1 or r * highest < sampling_rate / 2)
        tables.append(wave / np.std(wave))
    return np.stack(tables).astype(np.float32)


def _drone(backing: Backing, times: Floats) -> Floats:
    swell = 1 + np.float32(0.3) * np.sin(np.float32(1.3) * times)
    return swell * sum(np.sin(np.float32(2 * np.pi * pitch) * times) for pitch in backing.drone)


def _add_hits(mix: Floats, backing: Backing, sampling_rate: int, rng: np.random.Generator) -> None:
    """Add drums and hats to `mix` (samples,), in place."""
    times = np.arange(round(0.2 * sampling_rate), dtype=np.float32) / np.float32(sampling_rate)
    drum = np.sin(2 * np.pi * (50 * times + 4 * (1 - np.exp(-30 * times)))) * np.exp(-18 * times)
    hat = np.diff(rng.standard_normal(len(times) + 1, dtype=np.float32)) * np.exp(-70 * times) / 2
    for start, strength in backing.hits:
        first = round(float(start) * sampling_rate)
        sound = drum if strength > 0 else hat
        room = mix[first : first + len(sound)]
        room += np.float32(backing.hits_level * abs(strength)) * sound[: len(room)]


def _record(mix: Floats, backing: Backing, sampling_rate: int, rng: np.random.Generator) -> Floats:
    """Put the mix into a room, add noise, tilt the spectrum, limit the peaks and bring it to its own loudness."""
    length = len(mix) + sampling_rate // 2  # room for the last echoes
    noise = np.fft.rfft(rng.standard_normal(length, dtype=np.float32))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(length, 1 / sampling_rate), 100) / 500).astype(np.float32)
    spectrum = np.fft.rfft(mix, length) * (1 + np.fft.rfft(_echoes(backing, sampling_rate, rng), length))
    spectrum += noise * 10 ** (octaves * np.float32(backing.noise_tilt / 20)) * np.float32(backing.noise_level)
    spectrum *= 10 ** (octaves * np.float32(backing.tilt / 20))
    sound = np.fft.irfft(spectrum, length)[: len(mix)].astype(np.float32)
    sound = np.tanh(np.float32(backing.drive) * sound / sound.std())
    return np.clip(sound * np.float32(backing.loudness) / sound.std(), -1, 1)


def _echoes(backing: Backing, sampling_rate: int, rng: np.random.Generator) -> Floats:
    """Half a second of impulse response after the direct sound."""
    times = np.arange(sampling_rate // 2, dtype=np.float32) / np.float32(sampling_rate)
    response = rng.standard_normal(len(times), dtype=np.float32) * np.exp(-times / np.float32(backing.room_decay))
    return response * np.sqrt(np.float32(backing.room) / np.sum(response**2))
