"""`cmmixer card`: the README of a trained model or of prepared clips, before they are shared."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.batches import SourceError
from ..data.dataset_card import SHARDS, write_dataset_card
from ..training.model_card import write_model_card


@dataclass
class CardSettings:
    """Write the README of a model's folder, or of prepared clips, from what lies in it."""

    folder: str = field(metadata={"help": "folder of a saved model, or of prepared shards"})
    name: str | None = field(default=None, metadata={"help": "name on the Hub, such as you/model"})
    license: str | None = field(
        default=None, metadata={"help": "licence of the weights or of the media, as the Hub calls it"}
    )


def write_card(settings: CardSettings) -> None:
    """Write `README.md` and say how to share the folder.

    Raises:
        SourceError: the folder holds neither a model nor shards.
    """
    folder = Path(settings.folder)
    given: dict[str, Any] = {"name": settings.name, "license": settings.license}
    facts = {name: value for name, value in given.items() if value}
    if (folder / "config.json").exists():
        written, kind = write_model_card(folder, **facts), ""
    elif any(folder.glob(SHARDS)):
        written, kind = write_dataset_card(folder, **facts), " --repo-type dataset"
    else:
        raise SourceError(f"{folder} holds neither config.json nor {SHARDS}: give the folder of a model or of shards")
    print(f"{written}\nShare it: hf upload {settings.name or 'YOU/NAME'} {folder}{kind}")
