"""Two processes do what one does: the retriever's loss and gradients, and whole trainings of every kind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from distributed import run_in_processes
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel
from training_runs import EXTRACTOR, final_state, make_adapted, make_model, make_settings, run_training, untimed

from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining, CMMixerForRetrieval, CMMixerForVideoClassification
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.evaluation.classification import ClipPredictions, predict_clips, score_classification
from cmmixer_hf.evaluation.results import Score
from cmmixer_hf.training.loop import train

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
CHUNKS = (None, 1)
LABELS = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "problem_type": "multi_label_classification"}
# The gradient of a key's bias is zero but for rounding, which Adam would make as large as any other.
NO_BIAS = {"qkv_bias": False}


def gradients(rows: slice, *, chunk: int | None, parallel: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of these rows of a batch of four, two of which share a track."""
    torch.manual_seed(0)
    model = CMMixerForRetrieval(CMMixerConfig(**SIZES, embed_chunk_size=chunk, learnable_temperature=True)).double()
    video, audio = torch.randn(2, 4, 2, 3, 16, 16, dtype=torch.float64)
    forward = DistributedDataParallel(model) if parallel else model
    tracks = torch.tensor([1, 2, 3, 1])
    loss = forward(pixel_values=video[rows], audio_values=audio[rows], track_id=tracks[rows]).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def work_of_one_process(rank: int) -> list:
    rows = slice(2 * rank, 2 * rank + 2)
    return [gradients(rows, chunk=chunk, parallel=True) for chunk in CHUNKS]


def test_two_processes_share_a_loss_like_one(tmp_path):
    first, second = run_in_processes(work_of_one_process, tmp_path)
    loss, expected = gradients(slice(0, 4), chunk=None, parallel=False)
    for (loss_0, gradients_0), (loss_1, gradients_1) in zip(first, second, strict=True):
        torch.testing.assert_close((loss_0 + loss_1) / 2, loss, atol=1e-6, rtol=0)
        torch.testing.assert_close(gradients_0, gradients_1)
        torch.testing.assert_close(gradients_0, expected, atol=1e-6, rtol=0)


def train_in_process(rank: int, *arguments, **options) -> list[dict[str, float]]:
    return run_training(*arguments, **options)


# What one process does, and what each of two does: masks are drawn batch by batch, negatives come from the whole batch.
SAME = {
    CMMixerForPreTraining: ({"batch_size": 2, "accumulation_steps": 2}, {"batch_size": 2}),
    CMMixerForRetrieval: ({"batch_size": 4, "augment": False}, {"batch_size": 2, "augment": False}),
    CMMixerForVideoClassification: (
        {"batch_size": 4, "augment": False, "accumulation_steps": 1},
        {"batch_size": 1, "augment": False, "accumulation_steps": 2},
    ),
}


@pytest.mark.parametrize("head", SAME)
def test_two_processes_train_like_one(head, prepared_folder, tmp_path):
    """Six clips make one step of four an epoch; the two that are left over must not make processes differ."""
    config = NO_BIAS | (LABELS if head is CMMixerForVideoClassification else {})
    one, two = ({"config": config, "epochs": 6, **options} for options in SAME[head])
    expected = run_training(prepared_folder, tmp_path / "one", head, **one)
    work = partial(train_in_process, clips=prepared_folder, folder=tmp_path / "two", head=head, **two)
    histories = run_in_processes(work, tmp_path / "results")
    assert untimed(histories[0]) == untimed(histories[1])
    assert [entry["step"] for entry in histories[0]] == [1, 2, 3, 4, 5, 6]
    for found, wanted in zip(histories[0], expected, strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
        assert found["gradient_norm"] == pytest.approx(wanted["gradient_norm"], rel=1e-4)
    torch.testing.assert_close(final_state(tmp_path / "two")[0], final_state(tmp_path / "one")[0], atol=1e-5, rtol=1e-4)


def trained(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a run saved: all of them, or those of its adapters."""
    (file,) = {*folder.glob("model.safetensors"), *folder.glob("adapter_model.safetensors")}
    return load_file(file)


@pytest.mark.parametrize("frozen", [{"freeze": "video_model"}, {"freeze_layers": 1}])
def test_two_processes_train_a_part_like_one(frozen, prepared_folder, tmp_path):
    """What is frozen has no gradient for processes to wait for."""
    one, two = ({"config": NO_BIAS, "epochs": 2, **frozen, **options} for options in SAME[CMMixerForRetrieval])
    run_training(prepared_folder, tmp_path / "one", CMMixerForRetrieval, **one)
    work = partial(train_in_process, clips=prepared_folder, folder=tmp_path / "two", head=CMMixerForRetrieval, **two)
    first, second = run_in_processes(work, tmp_path / "results")
    assert untimed(first) == untimed(second)
    torch.testing.assert_close(trained(tmp_path / "two"), trained(tmp_path / "one"), atol=1e-5, rtol=1e-4)


def train_adapters(rank: int, way: str, *, clips: Path, base: Path, folder: Path, batch_size: int) -> None:
    settings = make_settings(folder, epochs=2, batch_size=batch_size, augment=False)
    train(make_adapted(way, base, dropout=0.0), load_prepared(clips), EXTRACTOR, settings, progress=False)


@pytest.mark.parametrize("way", ["get_peft_model", "add_adapter"])
def test_two_processes_train_adapters_like_one(way, prepared_folder, tmp_path):
    work = partial(train_adapters, way=way, clips=prepared_folder, base=tmp_path / "base")
    work(0, folder=tmp_path / "one", batch_size=4)
    run_in_processes(partial(work, folder=tmp_path / "two", batch_size=2), tmp_path / "results")
    torch.testing.assert_close(trained(tmp_path / "two"), trained(tmp_path / "one"), atol=1e-5, rtol=1e-4)


def classify(rank: int, *, rows: list[dict], average_views: bool) -> tuple[ClipPredictions, list[Score]]:
    model = make_model(CMMixerForVideoClassification, id2label=LABELS["id2label"])
    options = {"average_views": average_views, "batch_size": 2, "progress": False}
    predictions = predict_clips(model, Dataset.from_list(rows), EXTRACTOR, **options)
    return predictions, score_classification(predictions, resamples=20)


@pytest.mark.parametrize("average_views", [False, True])
def test_two_processes_classify_like_one(average_views, prepared_folder, tmp_path):
    """Of five clips one process sees two, the other three; the second and third are views of one file."""
    labels, files = "abbab", ["0", "1", "1", "3", "4"]
    clips = zip(load_prepared(prepared_folder), labels, files, strict=False)
    rows = [row | {"labels": [label], "path": file} for row, label, file in clips]
    work = partial(classify, rows=rows, average_views=average_views)
    alone, scores = work(0)
    for predictions, found in run_in_processes(work, tmp_path):
        torch.testing.assert_close(predictions.probabilities, alone.probabilities)
        assert torch.equal(predictions.labels, alone.labels)
        assert (predictions.names, predictions.views) == (alone.names, alone.views)
        assert found == scores
    assert sum(alone.views) == 5
    assert len(alone.names) == (4 if average_views else 5)


def test_scores_and_metrics_are_written_once(prepared_folder, tmp_path):
    run_in_processes(partial(train_in_process, clips=prepared_folder, folder=tmp_path / "run"), tmp_path / "results")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4


def test_one_process_goes_on_with_what_two_began(prepared_folder, tmp_path):
    options = {"batch_size": 1, "save_steps": 2, "config": {"hidden_dropout_prob": 0.1}}
    work = partial(train_in_process, clips=prepared_folder, folder=tmp_path / "two", **options)
    run_in_processes(work, tmp_path / "results")
    shutil.copytree(tmp_path / "two", tmp_path / "mixed")
    shutil.rmtree(tmp_path / "mixed" / "checkpoints" / "step-00000012")
    run_training(prepared_folder, tmp_path / "mixed", accumulation_steps=2, **options)
    torch.testing.assert_close(final_state(tmp_path / "mixed")[:2], final_state(tmp_path / "two")[:2])


def test_two_processes_go_on_with_what_two_began(prepared_folder, tmp_path):
    options = {"batch_size": 1, "save_steps": 2, "config": {"hidden_dropout_prob": 0.1}}
    for folder in ("whole", "killed"):
        work = partial(train_in_process, clips=prepared_folder, folder=tmp_path / folder, **options)
        run_in_processes(work, tmp_path / f"results-{folder}")
    shutil.rmtree(tmp_path / "killed" / "checkpoints" / "step-00000012")
    run_in_processes(work, tmp_path / "results-again")
    torch.testing.assert_close(
        final_state(tmp_path / "killed")[:2], final_state(tmp_path / "whole")[:2], rtol=0, atol=0
    )


SCRIPT = """
import ast, sys
import cmmixer_hf
from training_runs import run_training
clips, folder, head, options = sys.argv[1:]
steps = run_training(clips, folder, getattr(cmmixer_hf, head), **ast.literal_eval(options))[-1]["step"]
sys.stdout.write(f"steps {steps}\\n")  # in one piece: two processes write to one pipe
"""


def torchrun(
    *processes: str, clips: Path, folder: Path, options: dict, head: type = CMMixerForPreTraining
) -> list[str]:
    """The command that starts the script above in these processes; it trains into `folder / "run"`."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", *processes, str(script)]
    return [*command, str(clips), str(folder / "run"), head.__name__, repr(options)]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"} | more


def test_torchrun_starts_one_training_not_two(prepared_folder, tmp_path):
    options = {"batch_size": 1, "epochs": 2}
    command = torchrun("--standalone", "--nproc_per_node=2", clips=prepared_folder, folder=tmp_path, options=options)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("steps 6") == 2  # of six clips an epoch each process saw three
    run_training(prepared_folder, tmp_path / "one", accumulation_steps=2, **options)
    torch.testing.assert_close(final_state(tmp_path / "run")[0], final_state(tmp_path / "one")[0], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_what_a_scheduler_sends_to_torchrun_saves_and_the_same_command_goes_on(prepared_folder, tmp_path):
    options = {"batch_size": 1, "epochs": 200, "save_steps": 10_000}
    command = torchrun("--standalone", "--nproc_per_node=2", clips=prepared_folder, folder=tmp_path, options=options)
    launched = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while launched.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) > 20):
        time.sleep(0.1)
    launched.send_signal(signal.SIGTERM)
    _, errors = launched.communicate()
    assert launched.returncode != 0, errors
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert 20 <= int(saved.name.removeprefix("step-")) < 600
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout.count("steps 600") == 2, done.stderr
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, 601))


@pytest.fixture
def two_hosts():
    """Two network namespaces that a cable joins, as (prefix of a command, address) each."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("hosts of their own need root and the program `ip`")
    names = [f"cmmixer-{os.getpid()}-{number}" for number in range(2)]
    cables = [f"cm{number}-{os.getpid() % 10**8}" for number in range(2)]
    setup = [f"netns add {name}" for name in names]
    setup.append(f"link add {cables[0]} type veth peer name {cables[1]}")
    for number, (name, cable) in enumerate(zip(names, cables, strict=True)):
        setup += [f"link set {cable} netns {name}", f"-n {name} addr add 10.77.0.{number + 1}/24 dev {cable}"]
        setup += [f"-n {name} link set {cable} up", f"-n {name} link set lo up"]
    try:
        for line in setup:
            made = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no hosts of their own here: ip {line}: {made.stderr.strip()}")
        yield [(["ip", "netns", "exec", name], cable) for name, cable in zip(names, cables, strict=True)]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("head", [CMMixerForPreTraining, CMMixerForRetrieval])
def test_two_hosts_train_like_one_process(head, two_hosts, prepared_folder, tmp_path):
    config = {"config": NO_BIAS, "epochs": 6}
    one, two = (options | config for options in SAME[head])
    launched = []
    for number, (prefix, cable) in enumerate(two_hosts):
        hosts = ("--nnodes=2", f"--node_rank={number}", "--master_addr=10.77.0.1", "--master_port=29511")
        command = torchrun(*hosts, clips=prepared_folder, folder=tmp_path, options=two, head=head)
        launched.append(subprocess.Popen([*prefix, *command], env=environment(GLOO_SOCKET_IFNAME=cable)))
    assert [process.wait() for process in launched] == [0, 0]
    run_training(prepared_folder, tmp_path / "one", head, **one)
    torch.testing.assert_close(final_state(tmp_path / "run")[0], final_state(tmp_path / "one")[0], atol=1e-5, rtol=1e-4)
