from .loop import train
from .model_card import model_card, write_model_card
from .settings import TrainingSettings, read_settings

__all__ = [
    "TrainingSettings",
    "model_card",
    "read_settings",
    "train",
    "write_model_card",
]
