"""Sound of any channels, format and rate → mono at one rate, never louder than the loudest channel (§4.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import av
from av.audio.frame import AudioFrame
from av.filter import Graph

# Gains of ITU-R BS.775 for one loudspeaker in the middle: front pairs −3 dB, surround −3 dB of that, no bass effects.
FRONT, SURROUND = 0.5**0.5, 0.5
GAINS = dict.fromkeys(("FC", "TFC"), 1.0)
GAINS |= dict.fromkeys(("FL", "FR", "FLC", "FRC", "WL", "WR", "TFL", "TFR", "BC", "TBC", "TC"), FRONT)
GAINS |= dict.fromkeys(("BL", "BR", "SL", "SR", "SDL", "SDR", "TBL", "TBR", "TSL", "TSR"), SURROUND)
GAINS |= dict.fromkeys(("LFE", "LFE2"), 0.0)
PIECE = 1024  # samples that the filters hand over at once: fewer calls


def downmix_weights(channels: Sequence[str]) -> list[float]:
    """Weights of the channels, by FFmpeg's names, in a mono mix; their sum is 1, so that nothing is clipped.

    Mono stays as it is, stereo becomes its mean, surround ITU-R BS.775's gains over their sum. Where a channel has no
    known place, all count alike.

    >>> downmix_weights(["FL", "FR"])
    [0.5, 0.5]
    >>> [round(weight, 3) for weight in downmix_weights(["FL", "FR", "FC", "LFE", "BL", "BR"])]
    [0.207, 0.207, 0.293, 0.0, 0.146, 0.146]
    """
    gains = [GAINS.get(channel) for channel in channels]
    known = [gain for gain in gains if gain is not None]
    if len(known) < len(gains) or not sum(known):
        return [1 / len(channels)] * len(channels)
    return [gain / sum(known) for gain in known]


class MonoResampler:
    """Turns frames of one format and layout into mono float frames at `rate` Hz."""

    def __init__(self, frame: AudioFrame, rate: int) -> None:
        weights = downmix_weights([channel.name for channel in frame.layout.channels])
        mix = "+".join(f"{weight:.9f}*c{number}" for number, weight in enumerate(weights))
        self._graph = Graph()
        self._graph.link_nodes(
            self._graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format,
                layout=frame.layout.name,
                time_base=frame.time_base,
            ),
            self._graph.add("aformat", "sample_fmts=fltp"),  # otherwise whole numbers are mixed, and rounded
            self._graph.add("pan", f"mono|c0={mix}"),
            self._graph.add("aresample", f"{rate}:out_sample_fmt=fltp"),
            self._graph.add("abuffersink"),
        ).configure()
        self._graph.set_audio_frame_size(PIECE)

    def resample(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """Frames that are ready after the next input frame; None ends the input."""
        self._graph.push(frame)
        try:
            while True:
                yield self._graph.pull()  # type: ignore[misc] # frames of sound alone leave this graph
        except (av.BlockingIOError, av.EOFError):
            return
