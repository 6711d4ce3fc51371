"""CAV-MAE where people use it: the package's training, evaluation and index, Trainer, shared code, export, DDP."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from distributed import run_in_processes
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments, pipeline

from cmmixer_hf import (
    CAVMAEConfig,
    CAVMAEFeatureExtractor,
    CAVMAEForAudioVisualClassification,
    CAVMAEForPreTraining,
    CAVMAEForRetrieval,
    RetrievalIndex,
)
from cmmixer_hf.data.preparation import PrepareSettings, prepare_source
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.evaluation.retrieval import embed_clips, evaluate_retrieval
from cmmixer_hf.training.loop import TrainingSettings, train

SIZES = {
    "image_size": 32, "num_frames": 2, "audio_length": 64, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 64, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32,
}  # fmt: skip


def config(**options) -> CAVMAEConfig:
    return CAVMAEConfig(**(SIZES | options))


def clips(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "pixel_values": torch.randn(batch, 2, 3, 32, 32, generator=generator),
        "audio_values": torch.randn(batch, 64, 128, generator=generator),
    }


def draws(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "frame": torch.arange(batch) % 2,
        "video_noise": torch.rand(batch, 4, generator=generator),
        "audio_noise": torch.rand(batch, 32, generator=generator),
    }


# The package's own training, evaluation and index


def test_it_goes_through_the_same_training_evaluation_and_index(clip_files, tmp_path):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    options = {"num_frames": 2, "shorter_side": 32, "window_seconds": 1.0}
    prepare_source(PrepareSettings(str(clip_files[0].parent), str(tmp_path / "shards"), **options))
    prepared = load_prepared(tmp_path / "shards")
    extractor = CAVMAEFeatureExtractor(image_size=32, num_frames=2, audio_length=256)
    settings = TrainingSettings(str(tmp_path / "pretrained"), epochs=2, warmup_epochs=0, batch_size=3, logging_steps=1)
    history = train(CAVMAEForPreTraining(config()), prepared, extractor, settings, progress=False)
    assert len(history) == 4
    assert all(np.isfinite(entry["loss"]) for entry in history)
    assert all(entry["contrastive_loss"] > 0 for entry in history)
    model = CAVMAEForRetrieval.from_pretrained(tmp_path / "pretrained")
    settings.output_dir = str(tmp_path / "retrieval")
    train(model, prepared, extractor, settings, progress=False)
    embeddings = embed_clips(model, prepared, extractor, progress=False)
    assert embeddings.video.shape == embeddings.audio.shape == (6, 1, 32)
    assert evaluate_retrieval(embeddings)["video_to_audio"]["R@10"] == 100  # of six
    items = [{"title": clip} for clip in prepared["clip_id"]]
    index = RetrievalIndex.build(items, embeddings.audio, model="cav_mae")
    assert index.search(embeddings.audio[3], k=1)[0].item == items[3]


def test_it_learns_to_reconstruct_and_to_match():
    torch.manual_seed(0)
    model = CAVMAEForPreTraining(config(contrastive_weight=0.1, norm_pix_loss=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    given = clips(8)
    given["pixel_values"] = given["pixel_values"].mean((-2, -1), keepdim=True).expand(-1, -1, -1, 32, 32) * 20
    given["audio_values"] = given["audio_values"].mean((-2, -1), keepdim=True).expand(-1, 64, 128) * 80
    history = []
    for _ in range(150):
        output = model(**given)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append([output.video_loss.item(), output.audio_loss.item(), output.contrastive_loss.item()])
    first, last = np.mean(history[:5], 0), np.mean(history[-5:], 0)
    assert (last < 0.5 * first).all(), (first, last)
    retriever = CAVMAEForRetrieval(model.config)
    retriever.load_state_dict(model.state_dict(), strict=False)
    found = retriever.eval()(**given).logits_per_video.argmax(1)
    assert (found == torch.arange(8)).sum() >= 5  # one of eight by chance


# transformers' own


class Pairs(torch.utils.data.Dataset):
    """Random clips."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> dict:
        both = clips(6)
        return {name: value[number] for name, value in both.items()}


@pytest.mark.parametrize("head", [CAVMAEForPreTraining, CAVMAEForRetrieval])
def test_trainer_trains_and_evaluates_without_labels(head, tmp_path):
    options = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=3, per_device_eval_batch_size=4, max_steps=2, use_cpu=True,
        report_to="none", disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    seen = []

    def compute_metrics(prediction) -> dict[str, float]:
        parts = prediction.predictions
        seen.extend(part.shape for part in parts)
        return {}

    trainer = Trainer(
        head(config()), options, train_dataset=Pairs(), eval_dataset=Pairs(), compute_metrics=compute_metrics
    )
    assert np.isfinite(trainer.train().training_loss)
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    assert all(shape[0] == 6 and shape[-1] == 32 for shape in seen)


def test_the_audio_pipeline_takes_a_waveform():
    names = {0: "rain", 1: "wind"}
    model = CAVMAEForAudioVisualClassification(
        config(classifier_stream="audio", id2label=names, label2id={v: k for k, v in names.items()})
    )
    extractor = CAVMAEFeatureExtractor(image_size=32, audio_length=64)
    classify = pipeline("audio-classification", model=model, feature_extractor=extractor, device="cpu")
    waveform = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
    answers = classify(waveform, top_k=2)
    assert {answer["label"] for answer in answers} == set(names.values())
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)


READ_WITHOUT_PACKAGE = """
import sys
sys.modules["cmmixer_hf"] = None  # as if it were not installed
import torch
from transformers import AutoFeatureExtractor, AutoModelForPreTraining
folder = sys.argv[1]
model = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True).eval()
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
given = torch.load(folder + "/given.pt")
print(model(**given).loss.item())
print(extractor.audio_length)
"""


def test_a_shared_model_works_where_the_package_is_not_installed(tmp_path, monkeypatch):
    for ours in (CAVMAEConfig, CAVMAEForPreTraining, CAVMAEFeatureExtractor):
        monkeypatch.setattr(ours, "_auto_class", None)  # for this test alone
    CAVMAEConfig.register_for_auto_class()
    CAVMAEForPreTraining.register_for_auto_class("AutoModelForPreTraining")
    CAVMAEFeatureExtractor.register_for_auto_class()
    model = CAVMAEForPreTraining(config()).eval()
    folder = tmp_path / "shared"
    model.save_pretrained(folder)
    CAVMAEFeatureExtractor(audio_length=64).save_pretrained(folder)
    torch.save(clips() | draws(), folder / "given.pt")
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ_WITHOUT_PACKAGE, str(folder)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loss, length = done.stdout.split()
    assert float(loss) == pytest.approx(model(**clips(), **draws()).loss.item(), rel=1e-6)
    assert int(length) == 64


@pytest.mark.parametrize("head", [CAVMAEForPreTraining, CAVMAEForAudioVisualClassification])
def test_export_has_a_dynamic_batch(head):
    model = head(config()).eval()
    given = clips(3) | (draws(3) if head is CAVMAEForPreTraining else {})
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(model, (), given, dynamic_shapes={name: {0: batch} for name in given})
    other = {name: torch.cat([tensor, tensor])[:5] for name, tensor in given.items()}
    name = "logits" if head is CAVMAEForAudioVisualClassification else "loss"
    torch.testing.assert_close(exported.module()(**other)[name], model(**other)[name])


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("head", "backend"),
    [
        (CAVMAEForPreTraining, "aot_eager"),
        pytest.param(CAVMAEForRetrieval, "aot_eager", marks=SLOW),
        pytest.param(CAVMAEForPreTraining, "inductor", marks=SLOW),
        pytest.param(CAVMAEForRetrieval, "inductor", marks=SLOW),
    ],
)
def test_the_whole_graph_compiles(head, backend):
    torch.manual_seed(0)
    model = head(config())
    given = clips() | (draws() if head is CAVMAEForPreTraining else {"frame": torch.tensor([1, 0])})
    torch.compiler.reset()  # forget what other tests compiled
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    gradients = []
    for forward in (model, compiled):
        model.zero_grad()
        forward(**given).loss.backward()
        gradients.append({name: value.grad.clone() for name, value in model.named_parameters()})
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("training", [False, True])
def test_drawing_and_inference_compile_too(training, backend):
    torch.compiler.reset()
    for head in (CAVMAEForPreTraining, CAVMAEForRetrieval):
        compiled = torch.compile(head(config()).train(training), fullgraph=True, backend=backend)
        assert compiled(**clips()).loss.isfinite()


# Two processes


def gradients(rows: slice, *, parallel: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of these rows of a batch of four, two of which share a track."""
    torch.manual_seed(0)
    model = CAVMAEForPreTraining(config(contrastive_weight=1.0, contrastive_direction="symmetric")).double()
    forward = DistributedDataParallel(model) if parallel else model
    given = {name: value[rows] for name, value in (clips(4) | draws(4)).items()}
    given = {name: value.double() if value.is_floating_point() else value for name, value in given.items()}
    loss = forward(**given, track_id=torch.tensor([1, 2, 3, 1])[rows]).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def work_of_one_process(rank: int) -> tuple:
    return gradients(slice(2 * rank, 2 * rank + 2), parallel=True)


def test_two_processes_train_like_one_without_unused_parameters(tmp_path):
    (loss_0, gradients_0), (loss_1, gradients_1) = run_in_processes(work_of_one_process, tmp_path)
    loss, expected = gradients(slice(0, 4), parallel=False)
    torch.testing.assert_close((loss_0 + loss_1) / 2, loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients_0, gradients_1)
    torch.testing.assert_close(gradients_0, expected, atol=1e-6, rtol=0)
