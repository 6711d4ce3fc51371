from .loop import train as train
from .model_card import render_model_card as render_model_card
from .model_card import write_model_card as write_model_card
from .settings import TrainingSettings as TrainingSettings
from .settings import read_settings as read_settings
