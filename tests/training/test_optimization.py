import pytest
import torch
from training_runs import make_model, make_settings

from cmmixer_hf.training.optimization import make_optimizer, make_schedule


def test_only_matrices_decay(tmp_path):
    model = make_model()
    groups = make_optimizer(model, make_settings(tmp_path)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay.keys() == dict(model.named_parameters()).keys()
    assert {name for name, value in decay.items() if value} == {
        name for name in decay if name.endswith(".weight") and "norm" not in name
    }
    assert {group["lr"] for group in groups} == {1e-3}


def test_lower_layers_learn_more_slowly_all_the_way(tmp_path):
    settings = make_settings(tmp_path, layer_decay=0.5, learning_rate=1.0, min_learning_rate=0.1, warmup_epochs=0.0)
    optimizer = make_optimizer(make_model(), settings)
    schedule = make_schedule(optimizer, settings, steps_per_epoch=1, steps=4)
    for expected in (1.0, 0.1):
        assert sorted(set(schedule.get_last_lr())) == pytest.approx([expected * 0.5**depth for depth in (3, 2, 1, 0)])
        for _ in range(4):
            optimizer.step()
            schedule.step()


def test_it_is_the_papers_adamw(tmp_path):
    optimizer = make_optimizer(make_model(), make_settings(tmp_path))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.9, 0.95)
    assert optimizer.defaults["fused"]


def test_a_warm_up_that_never_ends_is_told(tmp_path, caplog):
    settings = make_settings(tmp_path, warmup_epochs=2.0)
    optimizer = make_optimizer(make_model(), settings)
    make_schedule(optimizer, settings, steps_per_epoch=5, steps=11)
    assert not caplog.text
    make_schedule(optimizer, settings, steps_per_epoch=5, steps=10)
    assert "a warm-up of 10 steps leaves none of 10" in caplog.text
