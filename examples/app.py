"""A page to drop a clip into and hear what fits it: the paper's inference (§3.4) and flexible queries (§5.2, Fig. 6).

    pip install -c constraints.txt -e ".[app]"
    make demo                                               # a model, an index and clips to try
    python examples/app.py --index demo/seed-0/index --pretrained demo/seed-0/pretrained

Nothing leaves the machine. On the Hub this file is a Space's `app.py`; the indexed files must lie beside it. With an
index of clips (`cmmixer index … --modality video`) the same page finds footage for a track.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import numpy as np
import torch

from cmmixer_hf import CMMixerForPreTraining, CMMixerProcessor, MediaError, Searcher
from cmmixer_hf.data import SourceError
from cmmixer_hf.index import Match
from cmmixer_hf.match_picture import draw_match
from cmmixer_hf.media import probe
from cmmixer_hf.search import QueryPart
from cmmixer_hf.settings import read_settings
from cmmixer_hf.visualization import draw_separation, enlarge, frames_to_rgb, sheet, strip

SHOWN = 5
NOTHING = "*Nothing yet: give a file and press the button.*"


@dataclass
class AppSettings:
    """What the page searches."""

    index: str = field(default="demo/seed-0/index", metadata={"help": "folder that `cmmixer index` wrote"})
    model: str = field(default="", metadata={"help": "the index's model, where it is not in its place any more"})
    pretrained: str = field(default="", metadata={"help": "pre-trained model, to show mixture and reconstruction"})
    port: int = field(default=7860, metadata={"help": "of the page, on this machine alone"})


class App:
    """The functions behind the page; each returns what its outputs show."""

    def __init__(self, settings: AppSettings):
        self.searcher = Searcher(settings.index, settings.model or None)
        self.pretrained = settings.pretrained

    def find(self, path: str | None, plus: str | None, minus: str | None, weight: float) -> list:
        """What the model saw of a file, its best matches with a player each, and why the first one fits."""
        if not path:
            raise gr.Error("give a video or an audio file first")
        bends = {"plus": plus, "minus": minus}
        parts = {name: [QueryPart(file, _sound(file), weight)] if file else [] for name, file in bends.items()}
        try:
            matches = self.searcher(path, k=SHOWN, **parts)
            seen = self.see(path)
        except MediaError as error:
            raise gr.Error(f"this file cannot be used: {error.reason}; {error.advice}") from error
        return [seen, *_columns(matches), draw_match(matches[0]) if matches else None]

    def see(self, path: str) -> np.ndarray | None:
        """The frames that the model sees, side by side; nothing for sound alone."""
        if not probe(path).has_video:
            return None
        processor = self.searcher.embedder.processor
        frames = frames_to_rgb(processor(videos=path)["pixel_values"][0], processor.feature_extractor)
        return strip(enlarge(frames, 96))

    def separate(self, path: str | None) -> np.ndarray:
        """Originals, mixture, what the encoder sees of it, and both reconstructions, from above to below."""
        if not (path and self.pretrained):
            raise gr.Error("give a video with sound" if self.pretrained else "start the page with --pretrained")
        try:
            processor = CMMixerProcessor.from_pretrained(self.pretrained)
            stacks = processor(videos=path, audio=path)
        except MediaError as error:
            raise gr.Error(f"this file cannot be used: {error.reason}; {error.advice}") from error
        model = CMMixerForPreTraining.from_pretrained(self.pretrained).eval()
        with torch.inference_mode():
            pictures = draw_separation(model, **stacks, extractor=processor.feature_extractor)
        return sheet(list(vars(pictures).values()))


def _sound(path: str) -> str:
    """Of a file that bends a query, what is heard."""
    return "audio" if probe(path).has_audio else "video"


def _columns(matches: list[Match]) -> list[object]:
    """A line of text and a player for each of the shown places."""
    lines: list[object] = []
    for place in range(SHOWN):
        match = matches[place] if place < len(matches) else None
        where = f", from {match.position}" if match and match.position else ""
        lines.append(f"**{place + 1}. {match.title}** · {match.score:.3f}{where}" if match else "")
        path = match.item.get("path") if match else None
        lines.append(gr.update(value=path if path and Path(path).exists() else None, visible=bool(match)))
    return lines


def build(app: App) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="CMMixer: music for a clip") as page:
        gr.Markdown("# Music for a clip, footage for a track\nThe best matches in the index, by eight segments each.")
        with gr.Row():
            with gr.Column():
                query = gr.File(label="Video or track", file_types=["video", "audio"], elem_id="query")
                with gr.Accordion("Bend the query: more of one sound, less of another", open=False):
                    plus = gr.File(label="plus", file_types=["video", "audio"], elem_id="plus")
                    minus = gr.File(label="minus", file_types=["video", "audio"], elem_id="minus")
                    weight = gr.Slider(0.0, 2.0, value=1.0, step=0.1, label="how much")
                button = gr.Button("Find what fits", variant="primary", elem_id="find")
                seen = gr.Image(label="What the model saw", interactive=False, elem_id="seen")
            with gr.Column():
                found: list[gr.components.Component] = []
                for place in range(SHOWN):
                    found.append(gr.Markdown(NOTHING if place == 0 else "", elem_id=f"title{place}"))
                    found.append(gr.Audio(visible=False, show_label=False, elem_id=f"player{place}"))
        with gr.Row():
            why = gr.Image(label="Why the first one: parts of the query × parts of the item", elem_id="why")
            with gr.Column():
                mixture = gr.Image(label="Originals, mixture, what is seen of it, reconstructions", elem_id="mixture")
                separate = gr.Button("Show mixture and reconstruction", elem_id="separate")
        button.click(app.find, [query, plus, minus, weight], [seen, *found, why], api_name="find")
        separate.click(app.separate, [query], [mixture], api_name="separate")
    return page


def main() -> None:
    """Serve the page on this machine."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    settings = read_settings(AppSettings)
    try:
        app = App(settings)
    except (SourceError, ValueError) as error:
        raise SystemExit(f"{error}") from error
    files = sorted({str(Path(path).resolve().parent) for path in app.searcher.index.store.files()})
    build(app).launch(
        server_name="127.0.0.1", server_port=settings.port, allowed_paths=files, max_file_size="200mb", show_error=True
    )


if __name__ == "__main__":
    main()
