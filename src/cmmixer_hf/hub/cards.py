"""`cmmixer card`: the README of a trained model or of prepared clips, before they are shared."""

from pathlib import Path
from typing import Any

from ..data.batches import SourceError
from ..data.dataset_card import SHARDS, write_dataset_card
from ..settings import CardSettings
from ..training.model_card import write_model_card


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
