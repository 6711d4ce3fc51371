"""Render the cards beside this file from their sources: python model_cards/render.py

A preset's card says what a run with its settings is; the demo's has the scores of the recorded run of `make demo`; a
released checkpoint's are those in its folders.
"""

import json
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cmmixer_hf import CMMixerConfig
from cmmixer_hf.demo import DemoSettings, model_config
from cmmixer_hf.evaluation import Score, read_scores
from cmmixer_hf.training import TrainingSettings, render_model_card

HERE = Path(__file__).parent
CHECKPOINTS = HERE.parent / "checkpoints"
DEMO_SETTINGS = ("seed", "clips", "pretraining_samples", "finetuning_samples")
DEMO_RUN = HERE.parent / "benchmarks" / "results" / "demo-seed-0.json"


@dataclass
class Source:
    """What a card is rendered from: a configuration, and the content of the files beside it."""

    architecture: str
    config: CMMixerConfig
    files: dict[str, Any] = field(default_factory=dict)


def sources() -> dict[str, Source]:
    """The sources by the names of their cards; the demo's is there as long as a run of it is recorded."""
    presets = {
        "cmmixer-solo": Source("CMMixerForPreTraining", CMMixerConfig(), {"settings.yaml": asdict(TrainingSettings())}),
        "cmmixer-duet": Source(
            "CMMixerForPreTraining",
            CMMixerConfig(decoder_type="duet"),
            {"settings.yaml": asdict(TrainingSettings(learning_rate=1e-4))},
        ),
    }
    return presets | ({"cmmixer-demo": demo_source(json.loads(DEMO_RUN.read_text()))} if DEMO_RUN.exists() else {})


def demo_source(demo: dict[str, Any]) -> Source:
    """The demo's retriever, from the results of a run."""
    facts = {
        "name": "demo/seed-0/retrieval",
        "trained_on": f"{demo['facts']['clips to train on']} clips that `make demo` makes from a seed, in a run of "
        f"{demo['facts']['minutes']} minutes from these to its report; the same command makes these weights again",
        "evaluated_on": f"{demo['held_out']} held-out clips of the demo",
        "limits": [
            "Its clips were made: it has never seen a real video, nor heard real music.",
            "It does not know motion: four still moments do not show at which rate something sways.",
        ],
    }
    files = {
        "settings.yaml": {name: getattr(DemoSettings(), name) for name in DEMO_SETTINGS},
        "evaluation.json": {"task": "retrieval", "scores": [score.to_dict() for score in demo_scores(demo)]},
        "card.yaml": facts,
    }
    return Source("CMMixerForRetrieval", model_config(), files)


def demo_scores(demo: dict[str, Any]) -> list[Score]:
    """What the trained model reached, what is reached without one, and which twins the model tells apart."""
    trained, _, *without = demo["scores"].items()
    scores = read_scores(trained[1])
    for name, found in without:
        about = {"direction": "video_to_audio", "positives": f"no model, {name}"}
        scores += [Score(metric, value, **about) for metric, value in found["video_to_audio"].items()]
    twins = demo["twins"]["trained"].items()
    return scores + [replace(Score.from_dict(score), direction=f"{kind} twins") for kind, score in twins]


def render(name: str, source: Source) -> str:
    """The text of a card."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / name
        source.config.architectures = [source.architecture]
        source.config.save_pretrained(folder)
        for file, content in source.files.items():
            (folder / file).write_text(json.dumps(content))  # which is YAML too
        return str(render_model_card(folder))


def cards() -> dict[str, str]:
    """The texts of all cards here: of presets, of the demo, and of the released checkpoint's two models."""
    released = {folder.name: folder for folder in CHECKPOINTS.iterdir()}
    released |= {f"{name}-pretraining": folder / "pretraining" for name, folder in released.items()}
    made = {name: render(name, source) for name, source in sources().items()}
    return made | {name: _seen_from_here(str(render_model_card(folder)), folder) for name, folder in released.items()}


def _seen_from_here(card: str, folder: Path) -> str:
    """A card of another folder, whose pictures lie there."""
    return card.replace("](pictures/", f"](../{folder.relative_to(HERE.parent).as_posix()}/pictures/")


if __name__ == "__main__":
    for name, text in cards().items():
        (HERE / f"{name}.md").write_text(text)
