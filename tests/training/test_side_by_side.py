"""Two lanes compute what the model's own forward does; resuming in them is exact."""

import shutil

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from training_runs import EXTRACTOR, final_state, make_adapted, make_model, make_settings, run_training, untimed

from cmmixer_hf import CMMixerForPreTraining, CMMixerForRetrieval, CMMixerForVideoClassification
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.training.loop import train
from cmmixer_hf.training.side_by_side import num_threads, side_by_side


@pytest.fixture(autouse=True)
def _two_threads():
    with num_threads(2):
        yield


def stacks(clips: int = 5, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return more | {
        name: torch.randn(clips, 2, 3, 32, 32, generator=generator) for name in ("pixel_values", "audio_values")
    }


def losses_and_gradients(forward, model, inputs):
    torch.manual_seed(2)
    model.zero_grad()
    output = forward(**inputs) if forward is not model else model(**inputs, return_dict=True)
    output["loss"].backward()
    losses = {name: output[name].detach() for name in ("loss", "video_loss", "audio_loss") if name in output}
    return losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize(
    ("head", "options", "inputs"),
    [
        (CMMixerForPreTraining, {}, stacks()),
        (CMMixerForPreTraining, {}, stacks(1)),
        (CMMixerForPreTraining, {"loss_on": "all", "mixer": "pixel"}, stacks(2)),
        (CMMixerForPreTraining, {"decoded_share": 0.5, "decoder_type": "duet", "norm_pix_loss": True}, stacks(4)),
        (CMMixerForRetrieval, {"return_dict": False}, stacks()),
        (CMMixerForRetrieval, {"token_drop_rate": 0.5}, stacks(track_id=torch.tensor([3, 1, 3, 4, 5]))),
        (CMMixerForRetrieval, {"learnable_temperature": True, "contrastive_direction": "video_to_audio"}, stacks(2)),
    ],
)
def test_lanes_give_the_same_losses_and_gradients(head, options, inputs, precision, tmp_path):
    AcceleratorState._reset_state()  # it remembers the first precision
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    model = accelerator.prepare(make_model(head, **options).train())
    expected = losses_and_gradients(model, model, inputs)
    with side_by_side(model, make_settings(tmp_path), accelerator) as forward:
        assert forward is not model
        found = losses_and_gradients(forward, model, inputs)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if precision == "no" else {"rtol": 2e-2, "atol": 1e-3}
    torch.testing.assert_close(found, expected, **tolerance)
    AcceleratorState._reset_state()


@pytest.mark.parametrize(
    ("head", "options", "settings"),
    [
        (CMMixerForPreTraining, {"hidden_dropout_prob": 0.1}, {}),
        (CMMixerForPreTraining, {}, {"accumulation_steps": 2}),
        (CMMixerForRetrieval, {"drop_path_rate": 0.1}, {}),
        (CMMixerForRetrieval, {"embed_chunk_size": 2}, {}),
        (CMMixerForRetrieval, {}, {"activation_checkpointing": True}),
        (CMMixerForVideoClassification, {}, {}),
    ],
)
def test_what_cannot_be_split_is_left_whole(head, options, settings, tmp_path):
    model, accelerator = make_model(head, **options), Accelerator(cpu=True)
    with side_by_side(model, make_settings(tmp_path, **settings), accelerator) as forward:
        assert forward is model


def test_neither_one_thread_nor_a_model_that_is_not_as_we_made_it_is_split(tmp_path):
    accelerator, settings = Accelerator(cpu=True), make_settings(tmp_path)
    with num_threads(1), side_by_side(model := make_model(), settings, accelerator) as forward:
        assert forward is model
    heard, random, other = make_model(), make_model(), make_model()
    heard.cmmixer.layers[0].register_forward_hook(lambda *_: None)
    random.cmmixer.layernorm = torch.nn.Sequential(random.cmmixer.layernorm, torch.nn.Dropout(0.1))
    other.forward = lambda **_: None
    for changed in (heard, random, other, make_adapted("add_adapter", tmp_path / "base")):
        with side_by_side(changed, settings, accelerator) as forward:
            assert forward is changed


@pytest.mark.parametrize("head", [CMMixerForPreTraining, CMMixerForRetrieval])
def test_a_run_in_lanes_is_the_same_again_and_when_it_goes_on(head, prepared_folder, tmp_path):
    whole, again = tmp_path / "whole", tmp_path / "again"
    options = {"head": head, "epochs": 4, "save_steps": 1, "keep_checkpoints": 9}
    history = untimed(run_training(prepared_folder, whole, **options))
    assert untimed(run_training(prepared_folder, again, **options)) == history
    for later in sorted(again.glob("checkpoints/step-*"))[3:]:
        shutil.rmtree(later)
    assert untimed(run_training(prepared_folder, again, **options)) == history
    torch.testing.assert_close(final_state(again)[:2], final_state(whole)[:2], rtol=0, atol=0)


def test_a_frozen_tower_stays_and_threads_are_given_back(prepared_folder, tmp_path):
    model = make_model(CMMixerForRetrieval)
    before = {name: p.clone() for name, p in model.named_parameters()}
    settings = make_settings(tmp_path, epochs=2, freeze="video_model")
    train(model, load_prepared(prepared_folder), EXTRACTOR, settings, progress=False)
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"audio_model"}
    assert torch.get_num_threads() == 2
