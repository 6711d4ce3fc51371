from .loop import train
from .model_card import render_model_card, write_model_card
from .settings import TrainingSettings, read_settings

__all__ = ["TrainingSettings", "read_settings", "render_model_card", "train", "write_model_card"]
