"""Code beside weights: the released retriever loads where this package is not installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed import kills_at_every_touch
from training_runs import EXTRACTOR, make_model

from cmmixer_hf import CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.hub import share_with_code

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "cmmixer-small-yardstick"
LOAD = """
import sys
sys.modules["cmmixer_hf"] = None  # as if it were not there
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
print(type(model).__name__, model.dtype, type(processor).__name__, type(processor.feature_extractor).__name__)
"""


def test_the_released_retriever_loads_with_its_code_alone(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(CHECKPOINT, folder)
    code = share_with_code(folder)
    stale = [file.name for file in code if file.read_bytes() != (CHECKPOINT / file.name).read_bytes()]
    assert not stale, "the code beside the released weights is of another day: share_with_code(CHECKPOINT) renews it"
    here = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOAD, str(folder)]
    done = subprocess.run(command, env=os.environ | here, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [
        "CMMixerForRetrieval",
        "torch.float32",
        "CMMixerProcessor",
        "CMMixerFeatureExtractor",
    ]


def test_a_folder_of_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(SourceError, match="'bert'"):
        share_with_code(tmp_path)


def save(folder: Path) -> None:
    make_model(CMMixerForRetrieval).save_pretrained(folder)
    CMMixerProcessor(EXTRACTOR).save_pretrained(folder)


@pytest.mark.slow
def test_sharing_that_is_killed_anywhere_loses_nothing(tmp_path):
    save(tmp_path / "whole")
    share_with_code(tmp_path / "whole")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    model, kills = tmp_path / "model", 0
    save(model)
    (model / "notes.txt").write_text("mine")
    for kills in kills_at_every_touch(model, share_with_code, model):  # noqa: B007 - counted
        left = {path.name: path.read_bytes() for path in model.iterdir() if not path.name.startswith(".")}
        assert left.pop("notes.txt") == b"mine"
        assert left["model.safetensors"] == expected["model.safetensors"]
        assert b"auto_map" not in left["config.json"] or left == expected
        assert all(left[name] == expected[name] for name in left if name.endswith(".py"))
    assert kills >= 20
    assert {name: (model / name).read_bytes() for name in expected} == expected


@pytest.mark.slow
def test_saving_that_is_killed_leaves_the_model_or_none(tmp_path):
    expected, kills = make_model(CMMixerForRetrieval).state_dict(), 0
    for number in range(4):
        for _ in kills_at_every_touch(tmp_path, save, tmp_path / f"{number}"):
            kills += 1
            try:
                found = CMMixerForRetrieval.from_pretrained(tmp_path / f"{number}").state_dict()
            except (OSError, ValueError):
                continue
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert kills >= 20
