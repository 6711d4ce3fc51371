"""Training a part of a model: frozen modules and layers, and peft's adapters."""

import pytest
import torch
from safetensors.torch import load_file
from training_runs import EXTRACTOR, make_adapted, make_model, make_settings, run_training, untimed

from cmmixer_hf import CMMixerForPreTraining, CMMixerForRetrieval
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.training.checkpoints import CheckpointError
from cmmixer_hf.training.loop import train


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ({"freeze": "video_model"}, lambda name: name.startswith("video_model.")),
        (
            {"freeze": "video_model.layers.1, audio_model.cls_token"},
            lambda name: name.startswith("video_model.layers.1.") or name == "audio_model.cls_token",
        ),
        (
            {"freeze_layers": 1},
            lambda name: any(part in name for part in ("cls_token", "patch_embeddings", "layers.0.")),
        ),
        ({"freeze_layers": 9}, lambda name: "model.layernorm." not in name),
    ],
)
def test_what_is_frozen_stays_as_it_was(settings, stays, prepared_folder, tmp_path):
    before = make_model(CMMixerForRetrieval).state_dict()
    run_training(prepared_folder, tmp_path, CMMixerForRetrieval, **settings)
    after = CMMixerForRetrieval.from_pretrained(tmp_path).state_dict()
    assert moved(before, after) == {name for name in before if not stays(name)}


def test_frozen_runs_resume_exactly_and_as_they_were(prepared_folder, tmp_path):
    options = {"freeze": "cmmixer", "save_steps": 3}
    whole = run_training(prepared_folder, tmp_path / "whole", **options)
    run_training(prepared_folder, tmp_path / "parts", **options, epochs=2)
    newest = sorted((tmp_path / "parts" / "checkpoints").iterdir())[-1]
    assert newest.name == "step-00000004"
    assert untimed(run_training(prepared_folder, tmp_path / "whole", **options)) == untimed(whole)
    with pytest.raises(CheckpointError, match="freeze = cmmixer, this one has decoders"):
        run_training(prepared_folder, tmp_path / "whole", **(options | {"freeze": "decoders"}))


def test_freezing_everything_or_nothing_is_refused_in_words(prepared_folder, tmp_path):
    with pytest.raises(ValueError, match="nothing of CMMixerForRetrieval is left to train: name less in freeze"):
        run_training(prepared_folder, tmp_path, CMMixerForRetrieval, freeze="video_model,audio_model")
    with pytest.raises(ValueError, match=r"freeze names 'decoder', .* it has cmmixer, decoders"):
        run_training(prepared_folder, tmp_path, freeze="decoder")


def load_adapted(way: str, base, folder):
    import peft

    if way == "get_peft_model":
        return peft.PeftModel.from_pretrained(CMMixerForRetrieval.from_pretrained(base), folder)
    return CMMixerForRetrieval.from_pretrained(folder)


@pytest.mark.parametrize("way", ["get_peft_model", "add_adapter"])
def test_an_adapter_trains_saves_resumes_and_loads(way, prepared_folder, tmp_path):
    clips = load_prepared(prepared_folder)

    def run(folder, **changes):
        model = make_adapted(way, tmp_path / "base")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        settings = make_settings(folder, learning_rate=1e-2, save_steps=2, **changes)
        history = train(model, clips, EXTRACTOR, settings, progress=False)
        changed = moved(before, model.state_dict())
        assert changed
        assert all("lora_" in name for name in changed)
        return history, model

    history, model = run(tmp_path / "whole")
    run(tmp_path / "parts", max_steps=4)
    longer, _ = run(tmp_path / "parts")
    assert [entry["step"] for entry in longer] == [entry["step"] for entry in history]
    resumed, _ = run_from(tmp_path, way, clips)
    assert untimed(resumed) == untimed(history)
    assert not (tmp_path / "whole" / "model.safetensors").exists()
    size = sum(value.numel() for value in load_file(tmp_path / "whole" / "adapter_model.safetensors").values())
    assert size < 0.2 * sum(value.numel() for value in model.parameters())
    loaded = load_adapted(way, tmp_path / "base", tmp_path / "whole").eval()
    stack = torch.randn(2, 2, 3, 32, 32)
    expected = model.eval().get_video_features(stack).segment_embeds
    torch.testing.assert_close(loaded.get_video_features(stack).segment_embeds, expected)


def run_from(folder, way, clips):
    """The finished run again, with its newest checkpoint gone: from the middle on."""
    import shutil

    newest = sorted((folder / "whole" / "checkpoints").iterdir())[-1]
    shutil.rmtree(newest)
    model = make_adapted(way, folder / "base")
    settings = make_settings(folder / "whole", learning_rate=1e-2, save_steps=2)
    return train(model, clips, EXTRACTOR, settings, progress=False), model


def test_a_frozen_start_may_be_pretrained(prepared_folder, tmp_path):
    """What LoRA is for: the base stays the file that it came from."""
    CMMixerForPreTraining(make_model().config).save_pretrained(tmp_path)
    model = CMMixerForRetrieval.from_encoder_pretrained(str(tmp_path))
    settings = make_settings(tmp_path / "run", freeze="audio_model", max_steps=2, warmup_epochs=0.0)
    train(model, load_prepared(prepared_folder), EXTRACTOR, settings, progress=False)
    trained = CMMixerForRetrieval.from_pretrained(tmp_path / "run")
    base = CMMixerForPreTraining.from_pretrained(tmp_path).cmmixer
    torch.testing.assert_close(trained.audio_model.state_dict(), base.state_dict(), rtol=0, atol=0)
