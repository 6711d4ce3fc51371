"""Small clips and models that several tests share."""

import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import FILES, PICTURES, SOUNDS, write_media
from transformers.utils.logging import disable_progress_bar

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor, CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.media.reading import Sampling, write_clip

TINY_SIZES = {
    "image_size": 32,
    "num_frames": 2,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
}
SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Sums in one order on every machine, and in the processes that tests start; quicker too on such small tensors."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    if "distributed" in sys.modules:
        forkserver.ensure_running()  # before a test prepares clips: the one server would have imported much less then


@pytest.fixture(scope="session", autouse=True)
def no_bars_between_lines():
    """What the command line sees to before it imports transformers, which tests have loaded already."""
    disable_progress_bar()


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """Folder of real clips that nobody here made."""
    if not (SHARED / "video").is_dir():
        pytest.skip(f"real videos are not here: {SHARED / 'video'} does not exist")
    return SHARED / "video"


def write_noise_clip(path: Path, seed: int, *, seconds: float = 3.0, sound: bool = True) -> Path:
    """A short clip of coloured noise, different for each seed."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (round(seconds * 10), 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    waveform = (0.1 * rng.standard_normal(round(seconds * 16000))).astype(np.float32) if sound else None
    write_clip(path, frames, waveform, fps=10, sampling_rate=16000)
    return path


@pytest.fixture(scope="session")
def clip_files(tmp_path_factory) -> list[Path]:
    """Six short clips with picture and sound."""
    folder = tmp_path_factory.mktemp("clips")
    return [write_noise_clip(folder / f"clip{number}.mp4", number) for number in range(6)]


@pytest.fixture(scope="session")
def media_file(tmp_path_factory) -> Callable[[str], Path]:
    """Path of a file of `media_files`, written when first asked for."""
    folder, recipes = tmp_path_factory.mktemp("media"), FILES | SOUNDS | PICTURES

    def get(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write_media(path, recipes[name])

    return get


@pytest.fixture(scope="session")
def prepared_folder(clip_files, tmp_path_factory) -> Path:
    """The six short clips, prepared: two frames and windows each, in three shards."""
    from cmmixer_hf.data.preparation import prepare
    from cmmixer_hf.data.recipes import Recipe

    folder = tmp_path_factory.mktemp("prepared") / "clips"
    recipe = Recipe(Sampling(num_frames=2, shorter_side=32), clips_per_shard=2)
    prepare(clip_files, folder, recipe, progress=False)
    return folder


@pytest.fixture
def sampling() -> Sampling:
    """Two frames and two windows a clip."""
    return Sampling(num_frames=2, shorter_side=32)


@pytest.fixture
def extractor() -> CMMixerFeatureExtractor:
    """Two segments of 32 × 32."""
    return CMMixerFeatureExtractor(image_size=32, num_frames=2)


@pytest.fixture
def tiny_config() -> CMMixerConfig:
    """Trains a step in milliseconds."""
    return CMMixerConfig(**TINY_SIZES)


@pytest.fixture(scope="session")
def retriever_folder(tmp_path_factory) -> Path:
    """An untrained retrieval model of two segments, saved with its processor."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("retriever")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    CMMixerForRetrieval(CMMixerConfig(image_size=32, num_frames=2, **sizes)).save_pretrained(folder)
    CMMixerProcessor(CMMixerFeatureExtractor(image_size=32, num_frames=2)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> Path:
    """A folder in which `cmmixer demo` has run, on a handful of clips."""
    pytest.importorskip("faiss", reason="the demo needs faiss-cpu")
    pytest.importorskip("matplotlib", reason="the demo needs matplotlib")
    from cmmixer_hf.demo.run import DemoSettings, run_demo

    folder = tmp_path_factory.mktemp("demo")
    few = {"clips": 8, "held_out": 5, "pretraining_samples": 8, "finetuning_samples": 8, "queries": 2}
    run_demo(DemoSettings(output=str(folder / "demo" / "seed-0"), **few))
    return folder
