"""A small world that is seen and heard: scenes of sounding shapes, drawn from a seed.

A `Scene` holds every factor. `Part`s bind picture and sound: height is pitch, in each shape's own way; light and size
are whose turn it is, shape is timbre, sway is vibrato. `Look`, `Extra`, `Backdrop` and `Backing` are nuisances of one
modality alone, drawn independently of the other. Rendering (`rendering.py`) reads nothing but the scene, so
`dataclasses.replace` on one factor gives a clip that differs in just that factor.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Seed = int | np.random.SeedSequence

# Each is a shape and a timbre. A rising one stands the higher the higher it sounds, a falling one the lower, and each
# kind begins at three places: who does not know the shape learns nothing about the pitch from where something stands.
RISING, FALLING = ("disc", "triangle", "ring"), ("square", "star", "cross")
IDENTITIES = (*RISING, *FALLING)
TEXTURES = ("waves", "clouds", "hills", "dots")
LOWEST_PITCH = 220.0  # Hz, the pitch of height 0 (A3); below it the mel bands are too coarse to tell notes apart
SEMITONES = 40  # height 1 lies this far above it, at about 2217 Hz (3.3 octaves)
DURATION = 4.0  # s, of a clip
TURN = (0.8, 2.4)  # s, the shortest and the longest
SCALES = (
    (0, 2, 4, 7, 9),
    (0, 3, 5, 7, 10),
    (0, 2, 3, 7, 8),
    (0, 2, 4, 7, 11),
)  # all pleasant against a drone on 0 and 7


@dataclass(frozen=True, eq=False)
class Part:
    """What one object plays and does: the factors that picture and sound share."""

    identity: str  # shape and timbre, one of IDENTITIES
    starts: Floats  # (notes,) s, increasing
    stops: Floats  # (notes,) s, stops[i] <= starts[i + 1]
    heights: Floats  # (notes,) in [0, 1], linear in log pitch
    turns: Floats  # (turns,) s, where they end; every second one is its own, and then it is lit
    own: int  # 0 has the first turn, 1 the second
    accents: Floats  # (notes,) in (0, 1]
    glide: float  # s from one height to the next
    sway_rate: float  # Hz, of the vibrato and of the sideways sway
    sway: float  # in [0, 1], 1 is a vibrato of one semitone either way


@dataclass(frozen=True, eq=False)
class Look:
    """How an object looks where the sound says nothing about it."""

    hue: float
    across: Floats  # (knots,) in [0, 1], equally spaced over the clip
    tilt: float  # rad, the most that it leans to either side
    tilt_rate: float  # Hz


@dataclass(frozen=True, eq=False)
class Extra:
    """A mute object of its own shape that wanders, and pulses at a rhythm nobody hears."""

    identity: str
    look: Look
    down: Floats  # (knots,) in [0, 1]
    radius: float  # of the frame height
    light: float
    pulse: float  # in [0, 1]
    pulse_rate: float  # Hz


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The moving texture behind the objects, and the camera."""

    texture: str  # one of TEXTURES
    seed: int  # of the texture and of the grain
    palette: Floats  # (3, 3) RGB in [0, 1], from dark to light
    drift: tuple[float, float]  # frame sizes per second, across and down
    exposure: float
    grain: float  # standard deviation in grey levels
    flicker: Floats  # (knots,) grey levels in [-8, 8] that the light of the place changes by, equally spaced


@dataclass(frozen=True, eq=False)
class Backing:
    """What is heard but not seen, and the recording."""

    seed: int  # of the noise
    drone: Floats  # (voices,) Hz
    drone_level: float  # amplitudes relative to the parts
    hits: Floats  # (beats, 2) s and strength; negative strengths are hats, positive ones drums
    hits_level: float
    noise_level: float
    noise_tilt: float  # dB per octave
    room: float  # energy of the echoes relative to the direct sound
    room_decay: float  # s until the echoes have fallen to 1 / e
    tilt: float  # dB per octave, of everything
    drive: float  # how hard the limiter works
    loudness: float  # root mean square of the whole track


@dataclass(frozen=True, eq=False)
class Scene:
    """All factors of one clip. `parts[i]` is seen as `looks[i]`."""

    duration: float
    parts: tuple[Part, ...]
    looks: tuple[Look, ...]
    extras: tuple[Extra, ...]
    backdrop: Backdrop
    backing: Backing


# --- drawing a scene -------------------------------------------------------------------------------------------------


def make_scene(seed: Seed, *, duration: float = DURATION, difficulty: float = 0.0) -> Scene:
    """Draw a scene of `duration` seconds; the same seed gives the same scene.

    Two objects sound, one rising and one falling, by turns. `difficulty` in [0, 1] is how often one plays in the
    other's turn; it also adds mute objects that look ever more like sounding ones, and a louder backing. Raises
    ValueError for a difficulty outside [0, 1] or less than 2 s.

    >>> scene = make_scene(0)
    >>> scene.duration, len(scene.parts), scene.parts[0].identity in IDENTITIES
    (4.0, 2, True)
    """
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty must lie in [0, 1], got {difficulty}")
    if duration < 2.0:
        raise ValueError(f"duration must be at least 2 s, got {duration}")
    bound, seen, heard = map(np.random.default_rng, _spawn(seed, 3))
    tempo, tonic = bound.uniform(84, 132), int(bound.integers(12))
    scale = np.add(SCALES[bound.integers(len(SCALES))], tonic) % 12
    identities = bound.permutation([bound.choice(RISING), bound.choice(FALLING)])
    turns = np.cumsum(bound.uniform(*TURN, size=math.ceil(duration / TURN[0])))
    tunes = [_draw_part(bound, str(name), duration, tempo, scale, difficulty) for name in identities]
    parts = tuple(_take_turns(bound, tune, turns, own, difficulty) for own, tune in enumerate(tunes))
    hue = seen.uniform(
        0.3, 1.02
    )  # of the backdrop, green to red: dark yellow looks like mud; objects wear the opposite
    hues = hue + 0.5 + seen.uniform(-0.18, 0.18) + np.arange(len(parts)) / 6
    return Scene(
        duration=duration,
        parts=parts,
        looks=tuple(_draw_look(seen, float(own), duration) for own in hues),
        extras=tuple(
            _draw_extra(seen, duration, difficulty) for _ in range(seen.integers(1, 3 + round(2 * difficulty)))
        ),
        backdrop=_draw_backdrop(seen, hue, duration),
        backing=_draw_backing(heard, duration, difficulty, tempo, tonic),
    )


def _spawn(seed: Seed, count: int) -> list[np.random.SeedSequence]:
    """Independent seeds; SeedSequence.spawn would count its calls, this is a pure function of the seed."""
    entropy, key = (seed.entropy, seed.spawn_key) if isinstance(seed, np.random.SeedSequence) else (seed, ())
    return [np.random.SeedSequence(entropy, spawn_key=(*key, i)) for i in range(count)]


def _draw_part(
    rng: np.random.Generator,
    identity: str,
    duration: float,
    tempo: float,
    scale: NDArray[np.int64],
    difficulty: float,
) -> Part:
    """Compose a tune: notes of two to four half beats along a contour that wanders everywhere."""
    step = 30.0 / tempo
    slots = rng.choice(3, size=math.ceil(duration / step), p=(0.35, 0.5, 0.15)) + 2
    edges = np.concatenate([[0], np.cumsum(slots)]) * step
    edges = edges[: np.searchsorted(edges, duration) + 1]
    starts, stops = edges[:-1], edges[1:]
    on_beat = np.isclose(starts / (2 * step) % 1, 0)
    contour = _contour(rng, starts, rate=0.14 + 0.24 * difficulty)
    return Part(
        identity=identity,
        starts=floats(starts),
        stops=floats(stops - 0.03),
        turns=floats([]),
        own=0,
        heights=_to_scale(contour, scale),
        accents=floats(rng.uniform(0.6, 0.85, len(starts)) + 0.15 * on_beat),
        glide=rng.uniform(0.05, 0.12),
        sway_rate=rng.uniform(2.0, 4.5),
        sway=rng.uniform(),
    )


def _take_turns(rng: np.random.Generator, tune: Part, turns: NDArray[np.float64], own: int, difficulty: float) -> Part:
    """The notes that begin in the part's own turns, and some others, which it plays in the dark."""
    tune = replace(tune, turns=floats(turns), own=own)
    plays = turn_curve(tune, tune.starts) > 0
    plays |= rng.random(len(plays)) < difficulty
    plays |= not plays.any()
    return replace(tune, **{name: getattr(tune, name)[plays] for name in ("starts", "stops", "heights", "accents")})


def _contour(rng: np.random.Generator, times: NDArray[np.float64], *, rate: float) -> NDArray[np.float64]:
    """Values in [0, 1] at `times` (N,): smooth, forgotten within 0.5 / rate seconds, and uniform over each clip.

    Ranks instead of values make every tune use all heights equally: no shape stands higher than another on average.
    """
    waves = rng.normal(size=(2, 24))
    rates = rng.normal(0.0, rate, size=24)  # Hz; a Gaussian spectrum, correlation exp(-(2 pi rate lag)^2 / 2)
    angles = 2 * np.pi * np.outer(times, rates)
    values = np.cos(angles) @ waves[0] + np.sin(angles) @ waves[1]
    return values.argsort().argsort() / max(len(times) - 1, 1)


def floats(values: ArrayLike) -> Floats:
    """`values` in single precision."""
    return np.asarray(values, dtype=np.float32)


def _to_scale(heights: NDArray[np.float64], scale: NDArray[np.int64]) -> Floats:
    """Move every height to the nearest note of the scale (pitch classes above LOWEST_PITCH)."""
    notes = np.array([semitone for semitone in range(SEMITONES + 1) if semitone % 12 in scale])
    nearest = np.abs(heights[:, None] * SEMITONES - notes).argmin(1)
    return floats(notes[nearest] / SEMITONES)


def _draw_path(rng: np.random.Generator, duration: float, seconds: float = 2.0) -> Floats:
    return floats(rng.uniform(size=2 + math.ceil(duration / seconds)))


def _draw_look(rng: np.random.Generator, hue: float, duration: float) -> Look:
    return Look(hue % 1.0, _draw_path(rng, duration), rng.uniform(0.05, 0.3), rng.uniform(0.1, 0.4))


def _draw_extra(rng: np.random.Generator, duration: float, difficulty: float) -> Extra:
    return Extra(
        identity=str(rng.choice(IDENTITIES)),
        look=_draw_look(rng, rng.uniform(), duration),
        down=_draw_path(rng, duration, rng.uniform(0.6, 3.0)),
        radius=0.055 + 0.085 * difficulty,
        light=0.5 + 0.4 * difficulty,
        pulse=difficulty,
        pulse_rate=rng.uniform(0.7, 2.2),
    )


def _draw_backdrop(rng: np.random.Generator, hue: float, duration: float) -> Backdrop:
    turn, light = rng.uniform(-0.1, 0.1), rng.uniform(0.2, 0.62)
    shades = ((hue - turn, 0.85, 0.4 * light), (hue, 0.65, light), (hue + turn, 0.45, 1.3 * light))
    speed, way = rng.uniform(0.02, 0.2), rng.uniform(0, 2 * np.pi)
    return Backdrop(
        texture=str(rng.choice(TEXTURES)),
        seed=int(rng.integers(2**31)),
        palette=np.stack([colour(*shade) for shade in shades]),
        drift=(speed * np.cos(way), speed * np.sin(way)),
        exposure=rng.uniform(0.72, 1.0),
        grain=rng.uniform(0.0, 5.0),
        flicker=floats(rng.uniform(1, 8) * (2 * _draw_path(rng, duration, rng.uniform(0.4, 2.0)) - 1)),
    )


def _draw_backing(rng: np.random.Generator, duration: float, difficulty: float, tempo: float, tonic: int) -> Backing:
    """Draw a drone and drums. Key and tempo are the tune's as long as it is easy, the pattern is never."""
    if rng.random() < difficulty:
        tempo, tonic = rng.uniform(84, 132), int(rng.integers(12))
    root = LOWEST_PITCH / 4 * 2 ** (tonic % 12 / 12 - (tonic > 5))
    step = 30.0 / tempo
    pattern = np.where(rng.random(16) < 0.45, rng.uniform(0.4, 1.0, 16) * rng.choice([1, -1], 16), 0.0)
    strengths = np.resize(pattern, math.ceil(duration / step))
    hits = np.stack([np.arange(len(strengths)) * step, strengths], axis=1)
    return Backing(
        seed=int(rng.integers(2**31)),
        drone=floats(root * np.array([1.0, 1.5, 2.0])[: rng.integers(1, 4)]),
        drone_level=rng.uniform(0.03, 0.12) * (1 + 3 * difficulty),
        hits=floats(hits[strengths != 0]),
        hits_level=rng.uniform(0.05, 0.4) * (1 + 2 * difficulty),
        noise_level=10 ** rng.uniform(-2.6, -1.5) * (1 + 3 * difficulty),
        noise_tilt=rng.uniform(-4, 0),
        room=rng.uniform(0.005, 0.05),
        room_decay=rng.uniform(0.06, 0.18),
        tilt=rng.uniform(-3, 1),
        drive=rng.uniform(0.05, 0.35),
        loudness=10 ** rng.uniform(-1.3, -0.8),
    )


def colour(hue: float, saturation: float, value: float) -> Floats:
    """Turn hue (in turns), saturation and value in [0, 1] into RGB (3,) in [0, 1]."""
    ramp = np.clip(np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return floats(value * (1 - saturation * (1 - ramp)))


# --- curves that both modalities read --------------------------------------------------------------------------------


def height_curve(part: Part, times: Floats) -> Floats:
    """Height in [0, 1] at `times` (N,) in seconds: held notes with a glide between them."""
    knots = np.stack([part.starts, part.starts + part.glide], axis=1).ravel()
    values = np.stack([np.concatenate([part.heights[:1], part.heights[:-1]]), part.heights], axis=1).ravel()
    return floats(np.interp(times, knots, values))


def loudness_curve(part: Part, times: Floats) -> Floats:
    """Loudness in [0, 1] at `times` (N,): each note swells for 20 ms, falls to half, and fades out within 60 ms."""
    note = np.maximum(np.searchsorted(part.starts, times, side="right") - 1, 0)
    age, left = times - part.starts[note], part.stops[note] - times
    swell = np.clip(age / 0.02, 0, 1) * np.clip(left / 0.06, 0, 1)
    fall = 0.6 + 0.4 * np.exp(np.maximum(age, 0) / np.float32(-0.25))
    return part.accents[note] * swell * fall


def place_curve(part: Part, times: Floats) -> Floats:
    """Where the object stands at `times` (N,), 0 at the bottom and 1 at the top: its height as its identity has it."""
    group = RISING if part.identity in RISING else FALLING
    height, start = height_curve(part, times), group.index(part.identity) / len(group)
    return np.mod(start + (height if group is RISING else 1 - height), np.float32(1))


def turn_curve(part: Part, times: Floats) -> Floats:
    """1 at `times` (N,) that are in one of the part's own turns, else 0."""
    return floats(np.searchsorted(part.turns, times) % 2 == part.own)


def sway_curve(part: Part, times: Floats) -> Floats:
    """Vibrato and sideways sway in [-1, 1] at `times` (N,)."""
    return np.float32(part.sway) * np.sin(np.float32(2 * np.pi * part.sway_rate) * times)
