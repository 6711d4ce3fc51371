"""What people do with transformers models: compile, export, place, train with Trainer, share as code, use pipelines."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments, pipeline

from cmmixer_hf import (
    CMMixerConfig,
    CMMixerFeatureExtractor,
    CMMixerForAudioClassification,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
)
from cmmixer_hf.evaluation.metrics import retrieval_metrics
from cmmixer_hf.models.similarity import segment_similarity

SIZES = {
    "image_size": 32, "num_frames": 2, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32,
}  # fmt: skip


def config(**options) -> CMMixerConfig:
    return CMMixerConfig(**(SIZES | options))


def stacks(batch: int = 2) -> dict[str, torch.Tensor]:
    video, audio = torch.randn(2, batch, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return {"pixel_values": video, "audio_values": audio}


# Pipelines


def test_the_audio_pipeline_takes_a_waveform():
    names = {0: "rain", 1: "wind", 2: "crow"}
    model = CMMixerForAudioClassification(config(id2label=names, label2id={v: k for k, v in names.items()}))
    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=2)
    classify = pipeline("audio-classification", model=model, feature_extractor=extractor, device="cpu")
    waveform = np.random.default_rng(0).uniform(-1, 1, 80000).astype(np.float32)
    answers = classify(waveform, top_k=3)
    assert {answer["label"] for answer in answers} == set(names.values())
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)
    logits = model.eval()(**extractor(audio=waveform)).logits
    assert answers[0]["label"] == names[logits.argmax().item()]


# Trainer


class Pairs(torch.utils.data.Dataset):
    """Clips whose two modalities are one and the same."""

    def __init__(self, count: int, **columns):
        self.count, self.columns = count, columns

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict:
        stack = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(number))
        return {"pixel_values": stack, "audio_values": stack} | {k: v[number] for k, v in self.columns.items()}


def arguments(folder: Path, **options) -> TrainingArguments:
    return TrainingArguments(
        str(folder), per_device_train_batch_size=4, per_device_eval_batch_size=3, max_steps=2, use_cpu=True,
        report_to="none", disable_tqdm=True, save_strategy="no", **options,
    )  # fmt: skip


def test_trainer_ranks_over_the_whole_pool(tmp_path):
    seen = []

    def compute_metrics(prediction) -> dict[str, float]:
        _, _, video, audio = (torch.as_tensor(part) for part in prediction.predictions)
        seen.append(video.shape)
        return retrieval_metrics(segment_similarity(video, audio))

    trainer = Trainer(
        CMMixerForRetrieval(config()), arguments(tmp_path), train_dataset=Pairs(8), eval_dataset=Pairs(10),
        compute_metrics=compute_metrics,
    )  # fmt: skip
    trainer.train()
    metrics = trainer.evaluate()
    assert seen == [(10, 2, 32)]
    assert np.isfinite(metrics["eval_loss"])
    assert metrics["eval_R@10"] == 100  # of ten candidates


def test_trainer_pretrains_and_evaluates_without_labels(tmp_path):
    trainer = Trainer(
        CMMixerForPreTraining(config()), arguments(tmp_path), train_dataset=Pairs(8), eval_dataset=Pairs(4)
    )
    assert np.isfinite(trainer.train().training_loss)
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_gradient_accumulation_does_not_multiply_the_multi_label_loss(tmp_path):
    labels = torch.eye(3)[torch.arange(8) % 3]
    weights = []
    for batch, steps in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        model = CMMixerForVideoClassification(config(num_labels=3, problem_type="multi_label_classification"))
        options = arguments(tmp_path, gradient_accumulation_steps=steps, optim="sgd", max_grad_norm=0.0)
        options.per_device_train_batch_size, options.max_steps = batch, 1
        Trainer(model, options, train_dataset=Pairs(8, labels=labels)).train()
        weights.append(model.classifier.weight.detach())
    torch.testing.assert_close(*weights, atol=1e-7, rtol=1e-5)


# Placing


def test_a_model_can_be_placed_by_a_device_map(tmp_path):
    model = CMMixerForPreTraining(config()).eval()
    model.save_pretrained(tmp_path)
    placed = CMMixerForPreTraining.from_pretrained(tmp_path, device_map="auto").eval()
    given = stacks() | {"noise": torch.rand(2, 8), "mixing_mask": torch.ones(2, 2, 1, 32, 32)}
    expected = model(**given).loss
    torch.testing.assert_close(placed(**given).loss.to(expected.device), expected, atol=1e-5, rtol=1e-5)


# Sharing as code


READ_WITHOUT_PACKAGE = """
import sys
sys.modules["cmmixer_hf"] = None  # as if it were not installed
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForPreTraining
folder = sys.argv[1]
model = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True).eval()
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
stack = torch.linspace(-1, 1, 2 * 2 * 3 * 32 * 32).view(2, 2, 3, 32, 32)
noise, mixing_mask = torch.linspace(0, 1, 16).view(2, 8), torch.ones(2, 2, 1, 32, 32)
print(model(pixel_values=stack, audio_values=stack, noise=noise, mixing_mask=mixing_mask).loss.item())
print(extractor.num_frames)
"""


def test_a_shared_model_works_where_the_package_is_not_installed(tmp_path, monkeypatch):
    for ours in (CMMixerConfig, CMMixerForPreTraining, CMMixerFeatureExtractor):
        monkeypatch.setattr(ours, "_auto_class", None)  # for this test alone
    CMMixerConfig.register_for_auto_class()
    CMMixerForPreTraining.register_for_auto_class("AutoModelForPreTraining")
    CMMixerFeatureExtractor.register_for_auto_class()
    model = CMMixerForPreTraining(config()).eval()
    folder = tmp_path / "shared"
    model.save_pretrained(folder)
    CMMixerFeatureExtractor(image_size=32, num_frames=2).save_pretrained(folder)
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ_WITHOUT_PACKAGE, str(folder)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loss, frames = done.stdout.split()
    stack = torch.linspace(-1, 1, 2 * 2 * 3 * 32 * 32).view(2, 2, 3, 32, 32)
    given = {"noise": torch.linspace(0, 1, 16).view(2, 8), "mixing_mask": torch.ones(2, 2, 1, 32, 32)}
    assert float(loss) == pytest.approx(model(pixel_values=stack, audio_values=stack, **given).loss.item(), rel=1e-6)
    assert int(frames) == 2


# Compiling and exporting


@pytest.mark.parametrize("head", [CMMixerForPreTraining, CMMixerForRetrieval])
def test_export_has_a_dynamic_batch(head):
    model = head(config()).eval()
    given = stacks(3)
    if head is CMMixerForPreTraining:
        given |= {"noise": torch.rand(3, 8), "mixing_mask": torch.ones(3, 2, 1, 32, 32)}
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(model, (), given, dynamic_shapes={name: {0: batch} for name in given})
    other = {name: torch.cat([tensor, tensor])[:5] for name, tensor in given.items()}
    torch.testing.assert_close(exported.module()(**other).loss, model(**other).loss)


BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("head", [CMMixerForPreTraining, CMMixerForRetrieval, CMMixerForVideoClassification])
def test_the_whole_graph_compiles_for_training_and_inference(head, backend):
    torch.manual_seed(0)
    model = head(config())
    given = stacks()
    if head is CMMixerForPreTraining:
        given |= {"noise": torch.rand(2, 8), "mixing_mask": torch.ones(2, 2, 1, 32, 32)}
    if head is CMMixerForVideoClassification:
        given = {"pixel_values": given["pixel_values"], "labels": torch.tensor([0, 1])}
    torch.compiler.reset()  # forget what other tests compiled
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    gradients = []
    for forward in (model, compiled):
        model.zero_grad()
        forward(**given).loss.backward()
        gradients.append({name: value.grad.clone() for name, value in model.named_parameters() if value.requires_grad})
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(**given).loss, model(**given).loss, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mixer", ["cutmix", "pixel", "mixup"])
def test_drawing_the_mixture_and_the_mask_compiles_too(mixer, backend):
    torch.compiler.reset()  # forget what other tests compiled
    compiled = torch.compile(CMMixerForPreTraining(config(mixer=mixer)), fullgraph=True, backend=backend)
    assert compiled(**stacks()).loss.isfinite()
