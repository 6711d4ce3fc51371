"""Pushing to and loading from a Hub: the real clients against a small server on this machine."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY_SIZES
from hub_server import HubServer, check_card

import cmmixer_hf
from cmmixer_hf import (
    CAVMAEConfig,
    CAVMAEFeatureExtractor,
    CAVMAEForRetrieval,
    CMMixerConfig,
    CMMixerFeatureExtractor,
    CMMixerForRetrieval,
    CMMixerProcessor,
)
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.media.reading import Sampling

CLIENT = Path(__file__).with_name("hub_client.py")
SOURCE = Path(cmmixer_hf.__file__).parent


@pytest.fixture(scope="module")
def server():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def folder(clip_files, tmp_path_factory) -> Path:
    """`model`, a retrieval model with its processor; `clips`, and `shards` of them."""
    folder = tmp_path_factory.mktemp("hub")
    CMMixerForRetrieval(CMMixerConfig(**TINY_SIZES)).save_pretrained(folder / "model")
    CMMixerProcessor(CMMixerFeatureExtractor(image_size=32, num_frames=2)).save_pretrained(folder / "model")
    sound = {"audio_length": 64, "num_mel_bins": 32}
    small = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    CAVMAEForRetrieval(CAVMAEConfig(image_size=32, num_frames=2, **sound, **small)).save_pretrained(folder / "cav-mae")
    CMMixerProcessor(CAVMAEFeatureExtractor(2, image_size=32, **sound)).save_pretrained(folder / "cav-mae")
    (folder / "clips").symlink_to(clip_files[0].parent)
    prepare(clip_files, folder / "shards", Sampling(num_frames=2, shorter_side=32), progress=False)
    return folder


@pytest.fixture(scope="module")
def client(server, folder):
    """Run steps of `hub_client.py` as `owner`, with caches of its own."""

    def run(steps: str, **environment: str) -> subprocess.CompletedProcess:
        here = {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_owner", "HF_HOME": str(folder / "home")}
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "DISABLE_SAFETENSORS_CONVERSION": "1"}
        command = [sys.executable, str(CLIENT), steps, str(folder)]
        environment = os.environ | here | quiet | environment
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-5000:]
        return done

    return run


@pytest.fixture(scope="module")
def session(client) -> subprocess.CompletedProcess:
    """What an owner does in one go, and what it prints; loading transformers once is what takes the time."""
    return client("push_and_load,be_refused,push_pickles,refuse_pickles,share_with_cards,load_clips,share_with_code")


def files_of(server: HubServer, kind: str, name: str) -> dict[str, bytes]:
    repository = server.hub.repositories[kind, name]
    return repository.commits[repository.branches["main"]]


def test_models_and_processors_are_pushed_and_loaded(session, server):
    assert set(files_of(server, "model", "owner/retrieval")) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "processor_config.json",
    }


NOBODY_ANSWERS = pytest.param({"HF_ENDPOINT": "http://127.0.0.1:9"}, marks=pytest.mark.slow)  # the client tries again


@pytest.mark.parametrize("network", [{"HF_HUB_OFFLINE": "1"}, NOBODY_ANSWERS])
def test_what_was_loaded_is_there_without_network(session, client, network):
    client("load_without_network", **network)  # nobody listens at port 9


def test_refusals_say_what_to_do(session):
    told = next(line for line in session.stderr.splitlines() if line.startswith("cmmixer: "))
    assert "owner/none is neither a model's folder nor a Hub name that can be reached" in told
    assert "hf auth login" in told


def test_pickled_weights_are_neither_loaded_nor_downloaded(session, server, folder):
    assert "pytorch_model.bin" in files_of(server, "model", "owner/evil")
    assert not [request for request in server.hub.requests if request.startswith("GET") and request.endswith(".bin")]
    assert not (folder / "payload-was-run").exists()


def test_folders_are_shared_with_their_cards(session, server):
    card = files_of(server, "model", "owner/carded")["README.md"].decode()
    assert "# owner/carded" in card
    assert not check_card(card)
    assert {"README.md", "errors.csv", "part-00000.parquet", "prepared.json"} == set(
        files_of(server, "dataset", "owner/shards")
    )
    assert "POST /api/validate-yaml" in server.hub.requests  # by which the client has a commit's card checked


def test_refusals_of_clips_say_what_to_do(session, client, folder):
    told = client("refuse_clips", HF_TOKEN="hf_guest", HF_HOME=str(folder / "guest")).stderr.splitlines()
    missing, private = (line for line in told if line.startswith("cmmixer: "))
    assert "hf://datasets/owner/none holds no prepared clips" in missing
    assert "If this is a private repository" in private
    assert all("hf auth login" in line for line in (missing, private))


def test_prepared_clips_are_pushed_and_loaded(session, server):
    assert any(name.endswith(".parquet") for name in files_of(server, "dataset", "owner/clips"))


def test_the_hub_refuses_a_card_whose_results_are_not_whole():
    whole = {"model-index": [{"name": "m", "results": [{"task": {"type": "t"}, "metrics": [{"type": "a"}]}]}]}
    wrong = check_card(f"---\n{json.dumps(whole)}\n---\n")
    assert wrong == ["a result lacks dataset", "a metric lacks value", "a dataset lacks name", "a dataset lacks type"]
    assert check_card("# no metadata") == ["a card starts with a block of metadata"]


SHARED = {path.name: path for wing in ("models", "media") for path in (SOURCE / wing).glob("*.py")}


def needed(*names: str) -> set[str]:
    """Our files that these import, and they themselves."""
    found: set[str] = set()
    names_left = set(names)
    while names_left:
        name = names_left.pop()
        found.add(name)
        nodes = ast.walk(ast.parse(SHARED[name].read_text()))
        names_left |= {f"{node.module}.py" for node in nodes if isinstance(node, ast.ImportFrom) and node.level} - found
    return found


@pytest.mark.parametrize(("name", "family"), [("with-code", "cmmixer"), ("cav-mae-with-code", "cav_mae")])
def test_what_is_shared_with_code_is_exactly_what_it_needs(session, server, name, family):
    files = files_of(server, "model", f"owner/{name}")
    code = {name for name in files if name.endswith(".py")}
    entries = (f"{kind}_{family}.py" for kind in ("configuration", "modeling", "feature_extraction"))
    assert code == needed(*entries, "processing_cmmixer.py")
    assert all(files[name] == SHARED[name].read_bytes() for name in code)


def test_shared_code_works_where_the_package_is_not_installed(session, client, folder):
    clip = next((folder / "clips").glob("*.mp4"))
    retrievers = {"model": CMMixerForRetrieval, "cav-mae": CAVMAEForRetrieval}
    scores = map(float, client("load_without_package").stdout.split())
    for (name, retriever), score in zip(retrievers.items(), scores, strict=True):
        inputs = CMMixerProcessor.from_pretrained(folder / name)(videos=clip, audio=clip)
        with torch.inference_mode():
            expected = retriever.from_pretrained(folder / name)(**inputs).logits_per_video.item()
        assert score == pytest.approx(expected, rel=1e-5)
