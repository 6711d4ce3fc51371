"""A page to drop a clip into and hear what fits it: the paper's inference (§3.4) and flexible queries (§5.2, Fig. 6).

    pip install -c constraints.txt -e ".[app]"
    make demo                                               # a model, an index of tracks, and clips to try
    cmmixer index demo/seed-0/clips demo/seed-0/footage --model demo/seed-0/retrieval --modality video
    python examples/app.py --music demo/seed-0/index --footage demo/seed-0/footage --pretrained demo/seed-0/pretrained

Nothing leaves the machine. On the Hub this file is a Space's `app.py`; the indexed files must lie beside it. What is
not given, the page says how to make.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import gradio as gr
import numpy as np

from cmmixer_hf import CMMixerForPreTraining, CMMixerProcessor, MediaError, Searcher
from cmmixer_hf.data import SourceError
from cmmixer_hf.media import probe
from cmmixer_hf.pictures import (
    draw_separation,
    draw_separations,
    enlarge,
    frames_to_rgb,
    sheet,
    spectrograms_to_rgb,
    strip,
)
from cmmixer_hf.search import Match, QueryPart, draw_match
from cmmixer_hf.training import read_settings

SHOWN = 5
MEDIA = ["video", "audio"]
NOTHING = "*Nothing yet: give a file and press the button.*"
NO_INDEX = (
    "This tab needs an index of {}. Make one, and start the page with `--{}`:\n\n    cmmixer index {} --model MODEL{}"
)


@dataclass
class AppSettings:
    """What the page searches."""

    music: str = field(default="", metadata={"help": "index of tracks, which `cmmixer index` wrote"})
    footage: str = field(default="", metadata={"help": "index of clips: `cmmixer index … --modality video`"})
    model: str = field(default="", metadata={"help": "the indexes' model, where it is not in its place any more"})
    pretrained: str = field(default="", metadata={"help": "pre-trained model, to show mixture and reconstruction"})
    port: int = field(default=7860, metadata={"help": "of the page, on this machine alone"})


class App:
    """The functions behind the page; each returns what its outputs show."""

    def __init__(self, settings: AppSettings):
        self.music = open_index(settings.music, "audio", settings.model)
        self.footage = open_index(settings.footage, "video", settings.model)
        self.pretrained = settings.pretrained

    def find_music(self, path: str | None) -> list:
        """Tracks for a clip or a track."""
        return find(self.music, path)

    def find_footage(self, path: str | None) -> list:
        """Clips for what is heard in a file."""
        return find(self.footage, path, "audio")

    def bend(self, path: str | None, plus: str | None, minus: str | None, weight: float) -> list:
        """Tracks for a clip, as it is and bent by the sound of others."""
        with told():
            parts = {"plus": plus, "minus": minus}
            bends = {name: [QueryPart(file, sound_of(file), weight)] if file else [] for name, file in parts.items()}
            plain, bent = self.music(given(path), k=SHOWN), self.music(path, k=SHOWN, **bends)
            return ["\n".join(map(line, range(1, SHOWN + 1), plain)), *columns(bent)]

    def separate(self, path: str | None) -> np.ndarray:
        """Originals, mixture, what the encoder sees of it, and both reconstructions, from above to below."""
        with told():
            processor = CMMixerProcessor.from_pretrained(self.pretrained)
            stacks = processor(videos=given(path), audio=path)
        model = CMMixerForPreTraining.from_pretrained(self.pretrained).eval()
        pictures = draw_separation(model, **stacks, extractor=processor.feature_extractor)
        frames = model.config.num_frames
        return draw_separations([pictures], frames=frames, segments=min(4, frames))


def open_index(folder: str, modality: str, model: str) -> Searcher | None:
    """An index of tracks (`audio`) or of clips (`video`)."""
    searcher = Searcher(folder, model or None) if folder else None
    if searcher and searcher.index.facts.modality != modality:
        made = searcher.index.facts.modality
        raise SourceError(
            f"{folder} is an index of {made}, expected {modality}: `cmmixer index … --modality {modality}`"
        )
    return searcher


@contextmanager
def told() -> Iterator[None]:
    """What is wrong with a file, in words on the page."""
    try:
        yield
    except MediaError as error:
        raise gr.Error(f"this file cannot be used: {error.reason}; {error.advice}") from error


def given(path: str | None) -> str:
    """A path, which must be there."""
    if not path:
        raise gr.Error("give a video or an audio file first")
    return path


def find(searcher: Searcher, path: str | None, modality: str | None = None) -> list:
    """The best matches with a player each, what the model took of the file, and why the first one fits."""
    with told():
        query = QueryPart(given(path), modality or ("video" if probe(path).has_video else "audio"))
        matches = searcher(query, k=SHOWN)
        return [*columns(matches), see(searcher.embedder.processor, query), draw_match(matches[0])]


def see(processor: CMMixerProcessor, query: QueryPart) -> np.ndarray:
    """The frames or the spectrograms that the model takes, in two rows."""
    extractor = processor.feature_extractor
    if query.modality == "video":
        images = frames_to_rgb(processor(videos=query.path)["pixel_values"][0], extractor)
    else:
        images = spectrograms_to_rgb(processor(audio=query.path)["audio_values"][0], extractor)
    half = -(-len(images) // 2)
    return sheet([strip(row) for row in np.split(enlarge(images, 128), [half])], 2)


def sound_of(path: str) -> str:
    """Of a file that bends a query, what is heard, where anything is."""
    return "audio" if probe(path).has_audio else "video"


def line(place: int, match: Match) -> str:
    """One result in words."""
    where = f", at {match.position}" if match.position else ""
    return f"{place}. **{match.title}** · {match.score:.3f}{where}"


def columns(matches: list[Match]) -> list[object]:
    """A line and a player for each of the shown places."""
    shown: list[object] = []
    for place in range(SHOWN):
        match = matches[place] if place < len(matches) else None
        path = match.item.get("path") if match else None
        shown.append(line(place + 1, match) if match else "")
        shown.append(gr.update(value=path if path and Path(path).exists() else None, visible=bool(match)))
    return shown


def upload(name: str, words: str = "Video or track") -> gr.File:
    """A place to drop a file."""
    return gr.File(label=words, file_types=MEDIA, elem_id=name, height=140)


def results(name: str, player: Callable[..., gr.components.Component]) -> list[gr.components.Component]:
    """A line and a player for each place, hidden until something is found."""
    found: list[gr.components.Component] = []
    for place in range(SHOWN):
        found.append(gr.Markdown(NOTHING if place == 0 else "", elem_id=f"{name}-title{place}"))
        style = {"visible": False, "show_label": False, "interactive": False, "buttons": ["download"]}
        found.append(player(**style, elem_id=f"{name}-player{place}"))
    return found


def picture(name: str, words: str) -> gr.Image:
    """A picture that the page fills, under its words."""
    gr.Markdown(words)
    return gr.Image(show_label=False, interactive=False, elem_id=name, buttons=["fullscreen"])


def search_tab(name: str, asked: str, find: Callable, player: Callable[..., gr.components.Component]) -> gr.File:
    """A file → ranked items, what the model took of it, and why the first item fits; returns where the file goes."""
    with gr.Row():
        with gr.Column():
            query = upload(f"{name}-query", asked)
            button = gr.Button(f"Find {name}", variant="primary", elem_id=f"{name}-find")
            seen = picture(f"{name}-seen", "What the model saw or heard of it")
        with gr.Column():
            found = results(name, player)
    with gr.Accordion("Why the first one", elem_id=f"{name}-reason"):
        why = picture(f"{name}-why", "How similar each part of the query is to each part of the item")
    button.click(find, [query], [*found, seen, why], api_name=f"find_{name}")
    return query


def music_tab(app: App) -> None:
    """A clip → tracks, and the clip on its way through pre-training."""
    query = search_tab("music", "A video, or a track for others like it", app.find_music, gr.Audio)
    with gr.Accordion("Mixture and reconstruction of the clip", open=False, elem_id="separation"):
        if not app.pretrained:
            gr.Markdown("Start the page with `--pretrained` and a pre-trained model's folder.")
            return
        separate = gr.Button("Mix, hide half, reconstruct", elem_id="separate")
        mixture = picture("mixture", "One mixture of many; hidden patches are grey, and predicted in the last two rows")
    separate.click(app.separate, [query], [mixture], api_name="separate")


def footage_tab(app: App) -> None:
    """A track → clips."""
    search_tab(
        "footage", "A track, or a video for what fits its sound", app.find_footage, partial(gr.Video, height=240)
    )


def bend_tab(app: App) -> None:
    """A clip, more of one sound and less of another → tracks."""
    with gr.Row():
        with gr.Column():
            query = upload("bend-query", "A video")
            with gr.Row():
                plus, minus = upload("plus", "plus the sound of"), upload("minus", "minus the sound of")
            weight = gr.Slider(0.0, 2.0, value=1.0, step=0.1, label="how much")
            button = gr.Button("Find music", variant="primary", elem_id="bend-find")
        with gr.Column():
            found = results("bend", gr.Audio)
            gr.Markdown("### Without plus and minus")
            plain = gr.Markdown(elem_id="bend-plain")
    button.click(app.bend, [query, plus, minus, weight], [plain, *found], api_name="bend")


def build(app: App) -> gr.Blocks:
    """The page."""
    tabs: list[tuple[str, Callable[[App], None], Searcher | None, str]] = [
        ("Find music", music_tab, app.music, NO_INDEX.format("tracks", "music", "TRACKS MUSIC", "")),
        (
            "Find footage",
            footage_tab,
            app.footage,
            NO_INDEX.format("clips", "footage", "CLIPS FOOTAGE", " --modality video"),
        ),
        ("Bend a query", bend_tab, app.music, NO_INDEX.format("tracks", "music", "TRACKS MUSIC", "")),
    ]
    with gr.Blocks(title="CMMixer: music for a clip, footage for a track") as page:
        gr.Markdown("# Music for a clip, footage for a track")
        for name, fill, searcher, missing in tabs:
            with gr.Tab(name):
                fill(app) if searcher else gr.Markdown(missing)
    return page


def main() -> None:
    """Serve the page on this machine."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    settings = read_settings(AppSettings)
    try:
        app = App(settings)
    except (SourceError, ValueError) as error:
        raise SystemExit(f"{error}") from error
    searchers = [searcher for searcher in (app.music, app.footage) if searcher]
    folders = {str(Path(path).resolve().parent) for searcher in searchers for path in searcher.index.store.files()}
    build(app).launch(
        server_name="127.0.0.1",
        server_port=settings.port,
        allowed_paths=sorted(folders),
        max_file_size="200mb",
        show_error=True,
    )


if __name__ == "__main__":
    main()
