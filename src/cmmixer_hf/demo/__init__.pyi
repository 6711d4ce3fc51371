from .rendering import Pixels, render_frames
from .run import IMAGE_SIZE, DemoSettings, make_extractor, model_config, run_demo
from .scenes import IDENTITIES, RISING, Floats, Part, Scene, make_scene
from .twins import TWINS, score_understanding
from .world import World, make_row, write_library

__all__ = [
    "IDENTITIES",
    "IMAGE_SIZE",
    "RISING",
    "TWINS",
    "DemoSettings",
    "Floats",
    "Part",
    "Pixels",
    "Scene",
    "World",
    "make_extractor",
    "make_row",
    "make_scene",
    "model_config",
    "render_frames",
    "run_demo",
    "score_understanding",
    "write_library",
]
