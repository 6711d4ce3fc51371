from .rendering import Pixels, render_frames
from .run import IMAGE_SIZE, DemoSettings, model_config, run_demo
from .scenes import IDENTITIES, Floats, Part, Scene, make_scene
from .world import World, clip_row, make_row, write_library

__all__ = [
    "IDENTITIES",
    "IMAGE_SIZE",
    "DemoSettings",
    "Floats",
    "Part",
    "Pixels",
    "Scene",
    "World",
    "clip_row",
    "make_row",
    "make_scene",
    "model_config",
    "render_frames",
    "run_demo",
    "write_library",
]
