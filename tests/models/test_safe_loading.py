import pytest
import torch
from transformers import AutoModel

from cmmixer_hf import CMMixerModel


def test_pickled_weights_are_loaded_only_where_asked_for(tiny_config, tmp_path):
    model = CMMixerModel(tiny_config)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for loader in (CMMixerModel, AutoModel):
        with pytest.raises(OSError, match="safetensors"):
            loader.from_pretrained(tmp_path)
    loaded = CMMixerModel.from_pretrained(tmp_path, use_safetensors=False)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())
