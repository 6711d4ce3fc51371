"""Importing us is cheap, and transformers' Auto classes know our classes whoever was imported first."""

import pickle
import subprocess
import sys

import pytest
from transformers import MODEL_MAPPING, AutoModelForPreTraining, PreTrainedModel

import cmmixer_hf
from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining, CMMixerModel, CMMixerProcessor

LOAD = """
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification
from transformers import AutoModelForPreTraining, AutoModelForVideoClassification, AutoProcessor
autos = [
    AutoConfig, AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification, AutoModelForAudioClassification,
    AutoFeatureExtractor, AutoProcessor,
]
print(*(type(auto.from_pretrained(sys.argv[1])).__name__ for auto in autos))
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", f"import sys\n{code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "first",
    [
        "import cmmixer_hf",
        "from transformers import AutoModel; import cmmixer_hf",
        "import cmmixer_hf; from transformers import ViTMAEModel",  # transformers' own files are half there
        "import cmmixer_hf; from transformers import Trainer",
        "from cmmixer_hf.media.processing_cmmixer import CMMixerProcessor",
        "from cmmixer_hf.models.modeling_cmmixer import CMMixerModel",  # half there when AutoModel is loaded
        "from cmmixer_hf.models.layers import CMMixerLayer",  # likewise, and what all models import
        "from cmmixer_hf.models.modeling_cav_mae import CAVMAEModel",
    ],
)
def test_auto_classes_lead_to_ours(first, tiny_config, extractor, tmp_path):
    CMMixerForPreTraining(tiny_config).save_pretrained(tmp_path)
    CMMixerProcessor(extractor).save_pretrained(tmp_path)
    loaded = run(f"{first}\n{LOAD}", str(tmp_path)).split()
    assert loaded == [
        "CMMixerConfig",
        "CMMixerModel",
        "CMMixerForPreTraining",
        "CMMixerForVideoClassification",
        "CMMixerForAudioClassification",
        "CMMixerFeatureExtractor",
        "CMMixerProcessor",
    ]


def test_what_stands_for_a_class_can_be_copied():
    registered = AutoModelForPreTraining._model_mapping._extra_content  # what processes hand over of the table
    assert pickle.loads(pickle.dumps(registered))[CMMixerConfig].__name__ == "CMMixerForPreTraining"


def test_what_stands_for_a_class_is_taken_for_it():
    stand_in = MODEL_MAPPING[CMMixerConfig]
    assert stand_in == CMMixerModel
    assert stand_in != CMMixerForPreTraining
    assert len({stand_in, CMMixerModel}) == 1

    class Derived(stand_in):
        pass

    assert Derived.__bases__ == (CMMixerModel,)
    assert issubclass(Derived, stand_in)
    assert issubclass(stand_in, PreTrainedModel)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = CMMixerModel(CMMixerConfig(**sizes))
    assert isinstance(model, stand_in)
    assert not isinstance(model.config, stand_in)


def test_importing_the_package_loads_nothing_heavy():
    loaded = set(run("import cmmixer_hf\nprint(*sys.modules)").split())
    assert "cmmixer_hf" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "numpy", "av"}


def test_public_names_are_found_and_listed():
    code = """
import cmmixer_hf
assert set(cmmixer_hf.__all__) <= set(dir(cmmixer_hf))
print(*(getattr(cmmixer_hf, name).__module__ for name in cmmixer_hf.__all__))
"""
    assert all(module.startswith("cmmixer_hf.") for module in run(code).split())


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(AttributeError, match="CMMixerForPoetry"):
        _ = cmmixer_hf.CMMixerForPoetry


def test_a_file_of_ours_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "cmmixer_hf.cli", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"cmmixer {cmmixer_hf.__version__}\n"), done.stderr
