"""Retrieval without a model: simple cues of picture and sound, compared pairwise, and a linear map of them all.

A retrieval score shows learning only as far as it exceeds theirs. Unlike the model, they see raw frames and waveforms,
before an extractor has removed brightness and loudness.
"""

import itertools
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..data.batches import Clips, StackMaker, collate_clips, unpack_frames, unpack_waveforms
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from .metrics import chance_metrics, retrieval_metrics

VIDEO_CUES = ("brightness", "contrast", "saturation", "motion energy", "centroid across", "centroid down")
AUDIO_CUES = ("loudness", "onset strength", "spectral centroid", "spectral spread", "spectral flux")
TOLERANCE = 2.0  # times chance that a cue may reach where a model's score is to mean something
CHOOSING_CLIPS = 500  # training clips among which the best cue is chosen
RIDGE, COMPONENTS = 0.1, 32  # of the canonical correlation analysis
WINDOW = 512  # samples of a short-time spectrum


@dataclass(frozen=True)
class FreeCue:
    """One way to retrieve without a model and its [`retrieval_metrics`] in both directions.

    `course` compares how a cue changes within the clips, `level` its mean over each clip.
    """

    name: str
    video_to_audio: dict[str, float] = field(default_factory=dict)
    audio_to_video: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Its scores, in the form of [`evaluate_retrieval`]."""
        return {"video_to_audio": self.video_to_audio, "audio_to_video": self.audio_to_video}

    @property
    def recall_at_10(self) -> float:
        """R@10, the mean of both directions."""
        return (self.video_to_audio["R@10"] + self.audio_to_video["R@10"]) / 2


@dataclass(frozen=True)
class FreeCues:
    """What can be retrieved from a pool without learning its content.

    Args:
        best: the cue that did best on training clips.
        cca: a linear map of all cues, fitted on all of these.
        linear: the same of cues and thumbnails of the stacks: not a cue but the simplest model, and not checked by
            the gate.
        chance: metrics of guessing.
    """

    best: FreeCue
    cca: FreeCue
    linear: FreeCue
    chance: dict[str, float]

    @property
    def rows(self) -> dict[str, dict[str, dict[str, float]]]:
        """Scores by name, in the form of [`evaluate_retrieval`]."""
        return {cue.name: cue.to_dict() for cue in (self.best, self.cca, self.linear)}

    def check(self) -> None:
        """The gate: raises ValueError where one of them retrieves more than twice as much as chance."""
        most = TOLERANCE * self.chance["R@10"]
        for cue in (self.best, self.cca):
            if cue.recall_at_10 > most:
                raise ValueError(
                    f"{cue.name} alone reaches R@10 {cue.recall_at_10:.1f} in this pool, more than {TOLERANCE:g} times "
                    f"chance ({most:.1f}): scores on these clips do not show that content was learned; take others"
                )


def score_free_cues(training: Clips, held_out: Clips, extractor: CMMixerFeatureExtractor) -> FreeCues:
    """Choose the best cue on training clips, fit a CCA on them, and score both on held-out ones.

    Args:
        training: prepared clips with frames and sound, as the model trains on; the more, the better the CCA.
        held_out: the pool.
        extractor: makes the stacks, of whose thumbnails the linear map is made beside the cues.
    """
    known, pool = _measure(training, extractor), _measure(held_out, extractor)
    few = _Measured(*(part[:CHOOSING_CLIPS] for part in vars(known).values()))
    best = max(_CANDIDATES, key=lambda candidate: _score(few, candidate).recall_at_10)
    cues = [_Measured(part.video[..., : len(VIDEO_CUES)], part.audio[..., : len(AUDIO_CUES)]) for part in (known, pool)]
    return FreeCues(
        _score(pool, best),
        _both_directions(f"all cues, CCA of {len(training)} pairs", _cca_similarity(*cues)),
        _both_directions(f"thumbnails, CCA of {len(training)} pairs", _cca_similarity(known, pool)),
        chance_metrics(len(held_out)),
    )


@dataclass(frozen=True)
class _Measured:
    """Cues first, thumbnails of the stacks behind them: (clips, K, features) of each modality."""

    video: Tensor
    audio: Tensor


def _measure(clips: Clips, extractor: CMMixerFeatureExtractor) -> _Measured:
    video, audio, make_stacks = [], [], StackMaker(extractor)
    for number in range(len(clips)):
        row = clips[number]
        stacks = make_stacks(collate_clips([row]))
        cues = picture_cues(unpack_frames(row)), sound_cues(unpack_waveforms(row))
        small = (
            nn.functional.adaptive_avg_pool2d(stacks["pixel_values"][0], (8, 8)),
            nn.functional.adaptive_avg_pool2d(stacks["audio_values"][0, :, :1], (16, 8)),
        )
        video.append(torch.cat([cues[0], small[0].flatten(1)], -1))
        audio.append(torch.cat([cues[1], small[1].flatten(1)], -1))
    return _Measured(torch.stack(video), torch.stack(audio))


def picture_cues(frames: Tensor) -> Tensor:
    """[`VIDEO_CUES`] of one clip's frames, (K, h, w, 3) uint8 → (K, 6); the centroid is of what differs from the rest.

    >>> picture_cues(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))[0].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.5, 0.5]
    """
    images = frames.float() / 255
    light = images.mean(-1)
    change = (light[1:] - light[:-1]).abs().mean((1, 2))
    salience = (light - light.flatten(1).median(1).values[:, None, None]).abs() + 1e-6
    salience = salience / salience.sum((1, 2), keepdim=True)
    across, down = (torch.linspace(0, 1, size) for size in (frames.shape[2], frames.shape[1]))
    return torch.stack(
        [
            light.mean((1, 2)),
            light.flatten(1).std(1),
            (images.amax(-1) - images.amin(-1)).mean((1, 2)),
            torch.cat([change[:1], change]) if len(change) else torch.zeros(1),
            (salience.sum(1) * across).sum(-1),
            (salience.sum(2) * down).sum(-1),
        ],
        dim=-1,
    )


def sound_cues(waveforms: Tensor) -> Tensor:
    """[`AUDIO_CUES`] of one clip's windows of sound, (K, samples) int16 or float → (K, 5); frequencies as shares.

    >>> sound_cues(torch.zeros(2, 4000)).shape
    torch.Size([2, 5])
    """
    waves = waveforms.float() / (32768 if waveforms.dtype == torch.int16 else 1)
    spectra = torch.stft(waves, WINDOW, WINDOW // 2, window=torch.hann_window(WINDOW), return_complex=True).abs()
    change = spectra.clamp(min=1e-5).log().diff(dim=-1)
    power = spectra.square().sum(-1) + 1e-9
    share = power / power.sum(-1, keepdim=True)
    frequency = torch.linspace(0, 1, share.shape[-1])
    centroid = (share * frequency).sum(-1)
    return torch.stack(
        [
            waves.square().mean(-1).clamp(min=1e-9).log(),
            change.clamp(min=0).mean((1, 2)),
            centroid,
            ((frequency - centroid[:, None]).square() * share).sum(-1).sqrt(),
            change.abs().mean((1, 2)),
        ],
        dim=-1,
    )


# Cue of the picture, cue of the sound, whether their courses or their levels are compared, and which way they go.
_CANDIDATES = list(itertools.product(VIDEO_CUES, AUDIO_CUES, ("course", "level"), (1, -1)))


def _score(clips: _Measured, candidate: tuple[str, str, str, int]) -> FreeCue:
    picture, sound, kind, sign = candidate
    seen = clips.video[..., VIDEO_CUES.index(picture)]
    heard = sign * clips.audio[..., AUDIO_CUES.index(sound)]
    if kind == "course":
        seen, heard = (nn.functional.normalize(part - part.mean(1, keepdim=True), dim=-1) for part in (seen, heard))
        similarity = seen @ heard.T
    else:
        levels = [part.mean(1) for part in (seen, heard)]
        seen, heard = ((level - level.mean()) / level.std().clamp(min=1e-9) for level in levels)
        similarity = -(seen[:, None] - heard).abs()
    against = "~ " if sign > 0 else "~ −"
    return _both_directions(f"{picture} {against}{sound}, {kind}", similarity)


def _both_directions(name: str, similarity: Tensor) -> FreeCue:
    return FreeCue(name, retrieval_metrics(similarity), retrieval_metrics(similarity.T))


def _cca_similarity(known: _Measured, pool: _Measured) -> Tensor:
    """A CCA fitted on the segments of known clips: cosine of the clips of a pool in what it finds, (N, N)."""
    views = zip((pool.video, pool.audio), _fit_cca(known.video.flatten(0, 1), known.audio.flatten(0, 1)), strict=True)
    seen, heard = (nn.functional.normalize(((view - mean) @ basis).flatten(1), dim=-1) for view, (mean, basis) in views)
    return seen @ heard.T


def _fit_cca(*views: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each of two views, (segments, features), its mean and a linear map onto what they share; with a ridge."""
    white, bases = [], []
    for view in views:
        view = view.double()
        covariance = torch.cov((view - view.mean(0)).T)
        scale = covariance.diagonal().clamp(min=1e-12).sqrt()
        correlation = covariance / scale / scale[:, None] + RIDGE * torch.eye(len(scale), dtype=torch.double)
        bases.append(torch.linalg.inv(torch.linalg.cholesky(correlation)).T / scale[:, None])
        white.append((view - view.mean(0)) @ bases[-1])
    left, strength, right = torch.linalg.svd(white[0].T @ white[1] / len(white[0]), full_matrices=False)
    sides = (left[:, :COMPONENTS], right.T[:, :COMPONENTS])
    maps = [(basis @ side * strength[:COMPONENTS].sqrt()).float() for basis, side in zip(bases, sides, strict=True)]
    return [(view.mean(0), one) for view, one in zip(views, maps, strict=True)]
