"""The paper's figures, drawn from a model and clips of one's own.

    make demo                                                # the models that the defaults name
    python examples/visualize.py --figure mixtures           # Fig. 2: one clip under the three mixers
    python examples/visualize.py --figure reconstructions    # Figs. 7, 8: what pre-training has learned to fill in
    python examples/visualize.py --figure tsne               # Fig. 5: segments by song and by class, with a number
    python examples/visualize.py --figure queries            # Fig. 6: a clip plus and minus a sound

Clips are made anew, of the demo's world but none of the demo's, so that no model has seen them; `--clips` takes
prepared ones. A minute or so each on one core. `examples/README.md` shows what came out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm
from transformers import set_seed

from cmmixer_hf import CMMixerFeatureExtractor, CMMixerForPreTraining, CMMixerForRetrieval
from cmmixer_hf.data import Clips, StackMaker, collate_clips, load_prepared
from cmmixer_hf.demo import World, make_row
from cmmixer_hf.evaluation import embed_clips
from cmmixer_hf.media import clip_sampling
from cmmixer_hf.pictures import (
    RGB,
    bend_query,
    bending_effects,
    centre_places,
    draw_bent_queries,
    draw_maps,
    draw_mixtures,
    draw_separation,
    draw_separations,
    map_segments,
    neighbour_purity,
    png_bytes,
)
from cmmixer_hf.training import read_settings

COLOURS = 128  # of the file, which a palette makes half as large
MADE_SEED = 20_000  # of made clips; far from those that a demo is trained on


@dataclass
class FigureSettings:
    """What to draw, and of what."""

    figure: Literal["mixtures", "reconstructions", "tsne", "queries"] = field(metadata={"help": "which figure"})
    output: str = field(default="", metadata={"help": "PNG file; FIGURE.png by default"})
    pretrained: str = field(default="demo/seed-0/pretrained", metadata={"help": "for mixtures and reconstructions"})
    retrieval: str = field(default="demo/seed-0/retrieval", metadata={"help": "for tsne and queries"})
    clips: str = field(default="", metadata={"help": "folder that `cmmixer prepare` wrote; made ones by default"})
    count: int = field(default=128, metadata={"help": "clips that are made, for tsne and queries"})
    places: list[int] = field(default_factory=lambda: [0, 1], metadata={"help": "clips to draw, by number"})
    segments: int = field(default=4, metadata={"help": "of each clip that reconstructions shows"})
    songs: int = field(default=10, metadata={"help": "that tsne shows"})
    seed: int = field(default=0, metadata={"help": "of the made clips, the masks and the map"})


def mixtures(settings: FigureSettings) -> RGB:
    """Fig. 2, of the first of `places`."""
    extractor = CMMixerFeatureExtractor.from_pretrained(settings.pretrained)
    (place,), clips = settings.places[:1], read_clips(settings, extractor, max(settings.places) + 1)
    stacks = StackMaker(extractor)(collate_clips([clips[place]]))
    return draw_mixtures(**stacks, extractor=extractor, generator=torch.Generator().manual_seed(settings.seed))


def reconstructions(settings: FigureSettings) -> RGB:
    """Figs. 7 and 8."""
    extractor = CMMixerFeatureExtractor.from_pretrained(settings.pretrained)
    model = CMMixerForPreTraining.from_pretrained(settings.pretrained).eval()
    clips, maker = read_clips(settings, extractor, max(settings.places) + 1), StackMaker(extractor)
    stacks = [maker(collate_clips([clips[place]])) for place in settings.places]
    pictures = [draw_separation(model, **one, extractor=extractor) for one in stacks]
    return draw_separations(pictures, segments=settings.segments, frames=model.config.num_frames)


def tsne(settings: FigureSettings) -> RGB:
    """Fig. 5: sounds by song and pictures by class, as they are and without what all clips share at each place."""
    model = CMMixerForRetrieval.from_pretrained(settings.retrieval)
    extractor = CMMixerFeatureExtractor.from_pretrained(settings.retrieval)
    clips = read_clips(settings, extractor, settings.count)
    trained, untrained = (embed_clips(one, clips, extractor) for one in (model, CMMixerForRetrieval(model.config)))
    songs = {track: str(number) for number, track in enumerate(dict.fromkeys(trained.tracks), 1)}
    sung = [place for place, track in enumerate(trained.tracks) if int(songs[track]) <= settings.songs]
    names, classes = [songs[trained.tracks[place]] for place in sung], [class_of(clip) for clip in clips]
    maps = []
    for state, change in {"": lambda embeds: embeds, " less place": centre_places}.items():
        for title, kinds, pair, apart in (
            ("Sounds by song", names, (trained.audio[sung], untrained.audio[sung]), False),
            ("Pictures by class", classes, (trained.video, untrained.video), True),
        ):
            ours, random = (neighbour_purity(change(embeds), kinds, apart=apart) for embeds in pair)
            shares = f"{ours.value:.0f} % (random weights {random.value:.0f} %, chance {ours.chance:.0f} %)"
            title = f"{title}{state}: neighbours alike\n{shares}"
            maps.append(map_segments(change(pair[0]), kinds, title=title, seed=settings.seed))
            print(title.replace("\n", " "))
    return draw_maps(maps)


def queries(settings: FigureSettings) -> RGB:
    """Fig. 6, of the first of `places`."""
    model = CMMixerForRetrieval.from_pretrained(settings.retrieval)
    extractor = CMMixerFeatureExtractor.from_pretrained(settings.retrieval)
    clips = read_clips(settings, extractor, settings.count)
    classes = [class_of(clip) for clip in clips]
    embeddings = embed_clips(model, clips, extractor)
    asked = [bend_query(embeddings, classes, query) for query in range(len(clips))]
    for sign, (before, after) in bending_effects(asked, classes).items():
        print(f"{sign} a sound, mean of all clips: share of its class from {before:.1f} to {after:.1f} %")
    return draw_bent_queries(asked[settings.places[0]], clips, classes, extractor)


def read_clips(settings: FigureSettings, extractor: CMMixerFeatureExtractor, count: int) -> Clips:
    """The first `count` clips, prepared or made."""
    if settings.clips:
        clips = load_prepared(settings.clips)
        return clips.select(range(min(count, len(clips))))
    sampling = clip_sampling(extractor)
    world = World(MADE_SEED + settings.seed, sampling)
    return [make_row(world, number) for number in tqdm(range(count), desc="making clips")]


def class_of(clip: Mapping[str, Any]) -> str:
    """Its first label; of a made clip, one of the two shapes that are seen and heard."""
    return (clip["labels"] or ["no label"])[0]


def main() -> None:
    """Draw one figure."""
    settings = read_settings(FigureSettings)
    set_seed(settings.seed)
    figures = {"mixtures": mixtures, "reconstructions": reconstructions, "tsne": tsne, "queries": queries}
    path = Path(settings.output or f"{settings.figure}.png")
    path.write_bytes(png_bytes(figures[settings.figure](settings), colours=COLOURS))
    print(f"{path}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
