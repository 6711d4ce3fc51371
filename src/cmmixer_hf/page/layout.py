"""The page itself: tabs, what fills them, and the same searches as tools for programs."""

from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np
from jinja2 import Environment, FileSystemLoader

from ..media.processing_cmmixer import CMMixerProcessor
from ..media.reading import MediaError, probe
from ..pictures.strips import enlarge, frames_to_rgb, sheet, spectrograms_to_rgb, strip
from ..search.index import Match
from ..search.match_picture import draw_match
from .finder import Finder, Question, UsersMistakeError, facts_in_words, file_id, of_file
from .tools import PLAYABLE, add_tools

HERE = Path(__file__).parent
_RESULTS = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True).get_template("results.html")
MOST = 50  # items that one search shows
EXAMPLES, LARGEST_EXAMPLE = 3, 50 << 20  # files, bytes
FILTERS_HELP = "What an item must have, between semicolons: bpm=90..120; duration<180; genre=jazz"
NO_INDEX = (
    "This tab needs an index of {}. Make one, and start the page with `--{}`:\n\n    cmmixer index {} --model MODEL{}"
)


@dataclass(frozen=True)
class Kind:
    """What a tab searches: music by a picture, or footage by a sound."""

    name: str
    modality: str
    ask: str
    together: str
    missing: str


MUSIC = Kind(
    "music",
    "audio",
    "A video, or a track for others like it",
    "Play under the clip",
    NO_INDEX.format("tracks", "music", "TRACKS MUSIC", ""),
)
FOOTAGE = Kind(
    "footage",
    "video",
    "A track, or a video for what fits its sound",
    "Play with the query's sound",
    NO_INDEX.format("clips", "footage", "CLIPS FOOTAGE", " --modality video"),
)


def build_page(music: Finder | None, footage: Finder | None, pretrained: str = "") -> gr.Blocks:
    """The page over an index of tracks and one of clips; what is missing, it says how to make.

    Args:
        music: of tracks.
        footage: of clips.
        pretrained: folder of a pre-trained model, to show a clip's mixture and reconstruction.
    """
    with gr.Blocks(title="CMMixer: music for a clip, footage for a track") as page:
        gr.Markdown("# Music for a clip, footage for a track")
        for kind, finder, other in ((MUSIC, music, footage), (FOOTAGE, footage, music)):
            with gr.Tab(f"Find {kind.name}"):
                if finder is None:
                    gr.Markdown(kind.missing)
                    continue
                query = _search_tab(kind, finder, _examples(other))
                if kind is MUSIC and pretrained:
                    _separation(query, pretrained)
        add_tools(music, footage)
    return page


def filled(**shown: Any) -> str:
    """The template filled; everything is escaped, and so are the signs that Gradio's own templates read."""
    return _RESULTS.render(**shown).replace("$", "&#36;").replace("{", "&#123;")


def render_matches(kind: Kind, finder: Finder, matches: list[Match], *, together: bool) -> str:
    """Matches as HTML: a line and a player each, which starts at the section."""
    hits = [_shown(finder, match) for match in matches]
    note = "" if hits else "Nothing in the index fits the filter."
    if matches and not any(match.stands_out for match in matches):
        note = "Nothing stands out: none of these fits better than noise would."
    kinds = {"kind": kind.modality, "name": kind.name, "together": kind.together if together else ""}
    return filled(hits=hits, note=note, **kinds)


def _shown(finder: Finder, match: Match) -> dict[str, Any]:
    name = file_id(finder.full_path(match.item["path"])) if "path" in match.item else ""
    there = name in finder.files and Path(finder.files[name]).is_file()
    start = match.item.get("start", 0.0)
    return {
        "title": match.title,
        "score": f"{match.score:.3f}" + ("" if match.standing is None else f" ({match.standing:+.1f} σ beyond noise)"),
        "position": match.position,
        "facts": facts_in_words(match.item),
        "start": start,
        "source": f"media/{name}#t={start:g},{match.item.get('end', 0):g}".removesuffix(",0") if there else "",
    }


def search_page(kind: Kind, finder: Finder, *asked: Any) -> list[Any]:
    """What the outputs of a tab show: results or the mistake in their place, and two pictures."""
    question = Question(*asked)
    try:
        matches = finder.find(question)
        together = bool(question.path) and _can_play_together(kind, str(question.path))
        results = render_matches(kind, finder, matches, together=together)
        seen = _seen(finder, question.path) if question.path else None
        return [results, seen, draw_match(matches[0]) if matches else None]
    except UsersMistakeError as mistake:
        return [filled(mistake=str(mistake)), None, None]


def _can_play_together(kind: Kind, path: str) -> bool:
    """Whether a query has the side that the hits lack: a picture for music, a sound for footage."""
    return probe(path).has_video if kind is MUSIC else probe(path).has_audio


def _our_processor(finder: Finder) -> CMMixerProcessor | None:
    """What makes the inputs of a model of this package, which can be drawn; nothing for another."""
    processor = getattr(finder.searcher.embedder, "processor", None)
    return processor if isinstance(processor, CMMixerProcessor) else None


def _seen(finder: Finder, path: str) -> np.ndarray | None:
    """The frames or spectrograms that our models take of a query, in two rows."""
    processor = _our_processor(finder)
    if processor is None:
        return None
    if finder.query(path).modality == "video":
        images = frames_to_rgb(processor(videos=path)["pixel_values"][0], processor.feature_extractor)
    else:
        images = spectrograms_to_rgb(processor(audio=path)["audio_values"][0], processor.feature_extractor)
    half = -(-len(images) // 2)
    return sheet([strip(row) for row in np.split(enlarge(images, 128), [half])], 2)


def _preview(path: str | None) -> str:
    """A player of the query."""
    if not path:
        return ""
    try:
        tag = "video" if probe(path).has_video else "audio"
    except MediaError as error:
        return filled(mistake=of_file(error))
    return filled(preview={"tag": tag, "source": f"gradio_api/file={quote(path)}"})


def _search_tab(kind: Kind, finder: Finder, examples: list[str]) -> gr.File:
    """A file or words → ranked items; returns where the file goes."""
    with gr.Row():
        with gr.Column():
            asked, asking = _question(kind, finder, examples)
        with gr.Column():
            shown = _answer(kind, finder, asked[0])
    gr.on(asking, partial(search_page, kind, finder), asked, shown, api_visibility="private")
    return asked[0]


def _question(kind: Kind, finder: Finder, examples: list[str]) -> tuple[list[Any], list[Any]]:
    """What is asked, in the order of [`Question`], and the events that ask it."""
    query = gr.File(label=kind.ask, file_types=PLAYABLE, elem_id=f"{kind.name}-query", height=120)
    preview = gr.HTML(elem_id=f"{kind.name}-preview", elem_classes="cmm-preview")
    query.change(_preview, [query], [preview], api_visibility="private", show_progress="hidden")
    words = gr.Textbox(
        label="Words", info="alone, or beside a file", visible=finder.knows_words, elem_id=f"{kind.name}-words"
    )
    button = gr.Button(f"Find {kind.name}", variant="primary", elem_id=f"{kind.name}-find")
    if examples:
        gr.Examples([[path] for path in examples], [query], label="Examples", elem_id=f"{kind.name}-examples")
    with gr.Accordion("How many, and which", open=False, elem_id=f"{kind.name}-which"):
        count = gr.Slider(1, MOST, value=5, step=1, label="How many", elem_id=f"{kind.name}-count")
        filters = gr.Textbox(label="Filter", info=FILTERS_HELP, elem_id=f"{kind.name}-filter")
    with gr.Accordion("More of this, less of that", open=False, elem_id=f"{kind.name}-bend"):
        plus = gr.File(label="plus the sound of", file_types=PLAYABLE, elem_id=f"{kind.name}-plus", height=120)
        minus = gr.File(label="minus the sound of", file_types=PLAYABLE, elem_id=f"{kind.name}-minus", height=120)
        weight = gr.Slider(0.0, 2.0, value=1.0, step=0.1, label="how much")
    with gr.Accordion("What the model knows, and what not", open=False, elem_id=f"{kind.name}-about"):
        gr.HTML(filled(about=finder.about()))
    return [query, words, plus, minus, weight, filters, count], [button.click, words.submit, filters.submit]


def _answer(kind: Kind, finder: Finder, query: gr.File) -> list[Any]:
    """What [`search_page`] fills: the results, what the model took of the query, and why the first one was found."""
    note = f"Nothing yet: give a file{', words or both,' * finder.knows_words} and press the button."
    results = gr.HTML(filled(note=note), elem_id=f"{kind.name}-found")
    if kind is MUSIC:
        _fit_row(query, results, finder)
    with gr.Accordion("Why the first one", open=False, elem_id=f"{kind.name}-reason"):
        why = _picture(f"{kind.name}-why", "How similar each part of the query is to each part of the item")
    ours = _our_processor(finder) is not None
    with gr.Accordion("What the model saw or heard", open=False, elem_id=f"{kind.name}-sight", visible=ours):
        seen = _picture(f"{kind.name}-seen", "Of the query")
    return [results, seen, why]


def _fit_row(query: gr.File, results: gr.HTML, finder: Finder) -> None:
    """The clip with one of the tracks under it, as a file; the page's script says which one."""
    with gr.Accordion("Take the clip with a track under it", open=False, elem_id="fit"):
        place = gr.Number(1, label="Place of the track in the list", precision=0, minimum=1, maximum=MOST)
        duck = gr.Checkbox(label="keep the clip's own sound")
        make = gr.Button("Make the video", elem_id="fit-make")
        made = gr.File(label="The clip with music", visible=False, elem_id="fit-made")
        said = gr.HTML()
    listed = r"() => [...document.querySelectorAll('#music-found audio')].map(one => one.getAttribute('src')).join(' ')"
    sources = gr.Textbox(visible=False)

    def lay(path: str | None, shown: str, number: float, keep: bool) -> list[Any]:
        try:
            chosen = shown.split()[int(number or 1) - 1 :][:1]
            if not (path and chosen):
                raise UsersMistakeError("search with a clip first, then choose one of the places shown")
            name, _, time = chosen[0].removeprefix("media/").partition("#t=")
            return [gr.update(value=finder.fit(path, name, float(time.split(",")[0]), duck=keep), visible=True), ""]
        except UsersMistakeError as mistake:
            return [gr.update(value=None, visible=False), filled(mistake=str(mistake))]

    listing = make.click(None, None, [sources], js=listed, api_visibility="private")
    listing.then(lay, [query, sources, place, duck], [made, said], api_visibility="private")


def _separation(query: gr.File, pretrained: str) -> None:
    """A clip on its way through pre-training."""
    with gr.Accordion("Mixture and reconstruction of the clip", open=False, elem_id="separation"):
        button = gr.Button("Mix, hide half, reconstruct", elem_id="separate")
        mixture = _picture("mixture", "One mixture; hidden patches are grey, and predicted in the last two rows")
        message = gr.HTML(elem_id="separation-said")
    button.click(partial(_separate, pretrained), [query], [mixture, message], api_visibility="private")


def _separate(pretrained: str, path: str | None) -> list[Any]:
    """Originals, mixture, what the encoder sees of it, and both reconstructions, from above to below."""
    from ..models.modeling_cmmixer import CMMixerForPreTraining
    from ..pictures.figures import draw_separations
    from ..pictures.strips import draw_separation

    if not path:
        return [None, filled(mistake="give a video first")]
    processor = CMMixerProcessor.from_pretrained(pretrained)
    try:
        stacks = processor(videos=path, audio=path)
    except MediaError as error:
        return [None, filled(mistake=of_file(error))]
    model = CMMixerForPreTraining.from_pretrained(pretrained).eval()
    pictures = draw_separation(model, **stacks, extractor=processor.feature_extractor)
    frames = model.config.num_frames
    return [draw_separations([pictures], frames=frames, segments=min(4, frames)), ""]


def _picture(name: str, words: str) -> gr.Image:
    gr.Markdown(words)
    return gr.Image(show_label=False, interactive=False, elem_id=name, buttons=["fullscreen"])


def _examples(other: Finder | None) -> list[str]:
    """Files of the other index to try, for what fits them is in this one."""
    files = (path for path in (other.files.values() if other else ()) if Path(path).is_file())
    return list(islice((path for path in files if Path(path).stat().st_size < LARGEST_EXAMPLE), EXAMPLES))
