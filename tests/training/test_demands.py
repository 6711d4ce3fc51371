"""What a training asks of the machine, and what is said when it is too much."""

import logging

import pytest
import torch
from training_runs import EXTRACTOR, make_model, make_settings

from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining, CMMixerForRetrieval, CMMixerForVideoClassification
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.training.demands import TrainingMemoryError, memory_advice, warn_of_days
from cmmixer_hf.training.loop import train


def test_days_on_a_cpu_are_said_before_they_begin(tmp_path, caplog):
    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator here")
    settings = make_settings(tmp_path, batch_size=32)
    with torch.device("meta"):
        model = CMMixerForPreTraining(CMMixerConfig())
    with caplog.at_level(logging.WARNING):
        warn_of_days(model, settings, steps=100_000)
    assert "100000 steps of this model take about" in caplog.text
    assert "days on this CPU; with image_size=96, hidden_size=192, num_hidden_layers=6 they take about" in caplog.text
    caplog.clear()
    warn_of_days(make_model(), settings, steps=8)
    assert not caplog.text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_says_what_to_lower_with_the_numbers_at_hand(error, tmp_path):
    settings = make_settings(tmp_path, batch_size=12)
    message = (
        r"embed_chunk_size \(None\) to 3.*activation_checkpointing=true.*batch_size \(12\), to 6 .*fewer clips compete"
    )
    with pytest.raises(TrainingMemoryError, match=message), memory_advice(make_model(CMMixerForRetrieval), settings):
        raise error
    with pytest.raises(ZeroDivisionError), memory_advice(make_model(), settings):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="another"), memory_advice(make_model(), settings):
        raise RuntimeError("another")


def test_a_training_that_needs_too_much_ends_in_that_sentence(prepared_folder, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CMMixerForVideoClassification, "classify", fail)
    model = make_model(CMMixerForVideoClassification, problem_type="multi_label_classification")
    settings = make_settings(tmp_path, activation_checkpointing=True)
    with pytest.raises(TrainingMemoryError, match=r"batch_size \(3\), to 1 with accumulation_steps=2"):
        train(model, load_prepared(prepared_folder), EXTRACTOR, settings, progress=False)
