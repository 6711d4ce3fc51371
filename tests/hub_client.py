"""What people do with the Hub, for `test_hub.py` to run in processes of their own: `hub_client.py STEP,… FOLDER`.

The Hub's address, tokens and caches are read from the environment when huggingface_hub is imported, so a test that sets
them needs a fresh process. FOLDER holds `model` and `cav-mae`, retrieval models with their processors, `clips`, and
`shards` of them.
"""

import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError

OWNER, GUEST = "hf_owner", "hf_guest"


def push_and_load(folder: Path) -> None:
    """Model, processor and extractor go there and come back, the newest or as they were."""
    import torch
    from transformers import AutoFeatureExtractor, AutoProcessor

    from cmmixer_hf import CMMixerFeatureExtractor, CMMixerForRetrieval, CMMixerProcessor
    from cmmixer_hf.search import open_embedder

    model = CMMixerForRetrieval.from_pretrained(folder / "model")
    processor = CMMixerProcessor.from_pretrained(folder / "model")
    model.push_to_hub("owner/retrieval")
    processor.push_to_hub("owner/retrieval")
    processor.feature_extractor.push_to_hub("owner/extractor")
    first = HfApi().model_info("owner/retrieval").sha
    weight = next(model.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
    model.push_to_hub("owner/retrieval", commit_message="One more")
    HfApi().create_tag("owner/retrieval", tag="v1", revision=first)
    HfApi().create_branch("owner/retrieval", branch="trial", revision="v1")
    for revision, expected in (("main", before + 1), ("v1", before), (first, before), ("trial", before)):
        loaded = CMMixerForRetrieval.from_pretrained("owner/retrieval", revision=revision)
        torch.testing.assert_close(next(loaded.parameters()), expected)
    assert open_embedder("owner/retrieval", revision="v1").identity != open_embedder("owner/retrieval").identity
    assert AutoProcessor.from_pretrained("owner/retrieval").to_dict() == processor.to_dict()
    assert type(AutoFeatureExtractor.from_pretrained("owner/extractor")) is CMMixerFeatureExtractor
    assert ModelCard.load("owner/retrieval").data.library_name == "transformers"


def be_refused(folder: Path) -> None:
    """What is private, missing or somebody else's is refused with what to do."""
    from cmmixer_hf import CMMixerForRetrieval, CMMixerProcessor
    from cmmixer_hf.cli import main

    model = CMMixerForRetrieval.from_pretrained(folder / "model")
    model.push_to_hub("owner/secret", private=True)
    for token in (GUEST, False):
        with pytest.raises(OSError, match="If this is a private repository, make sure to pass a token"):
            CMMixerForRetrieval.from_pretrained("owner/secret", token=token)
    with pytest.raises(OSError, match="Repository Not Found"):
        CMMixerProcessor.from_pretrained("owner/none")
    with pytest.raises(OSError, match="no-such-branch is not a valid git identifier"):
        CMMixerForRetrieval.from_pretrained("owner/secret", revision="no-such-branch")
    with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
        model.push_to_hub("owner/secret", token=GUEST)
    CMMixerForRetrieval.from_pretrained("owner/secret")  # its owner sees it
    assert main(["index", str(folder / "clips"), str(folder / "index"), "--model", "owner/none"]) == 1


def share_with_cards(folder: Path) -> None:
    """A model's folder and a folder of shards, as they are, each with its card."""
    from cmmixer_hf.cli import main

    for kind, name, here in (("model", "owner/carded", "model"), ("dataset", "owner/shards", "shards")):
        assert main(["card", str(folder / here), "--name", name]) == 0
        HfApi().create_repo(name, repo_type=kind)
        HfApi().upload_folder(repo_id=name, folder_path=folder / here, repo_type=kind)
    HfApi().create_repo("owner/secret-shards", repo_type="dataset", private=True)
    HfApi().upload_folder(repo_id="owner/secret-shards", folder_path=folder / "shards", repo_type="dataset")
    assert "cmmixer" in ModelCard.load("owner/carded").data.tags
    assert "cmmixer" in DatasetCard.load("owner/shards").data.tags


def load_without_network(folder: Path) -> None:
    """What was loaded before is there; what was not says why not."""
    import datasets
    from huggingface_hub import snapshot_download

    from cmmixer_hf import CMMixerForRetrieval, CMMixerProcessor
    from cmmixer_hf.data.batches import SourceError
    from cmmixer_hf.data.prepared_clips import load_prepared

    CMMixerProcessor.from_pretrained("owner/retrieval")
    CMMixerForRetrieval.from_pretrained("owner/retrieval")
    CMMixerForRetrieval.from_pretrained("owner/retrieval", revision="v1")
    with pytest.raises(OSError, match=r"We couldn't connect to .* couldn't find them in the cached files"):
        CMMixerForRetrieval.from_pretrained("owner/other")
    rows = list(load_prepared(folder / "shards"))
    assert list(load_prepared(snapshot_download("owner/shards", repo_type="dataset"))) == rows
    assert datasets.load_dataset("owner/clips", split="train").to_list() == rows
    with pytest.raises(SourceError, match=r"owner/shards cannot be reached .*: check the network, or download it once"):
        load_prepared("hf://datasets/owner/shards")


def push_pickles(folder: Path) -> None:
    """A checkpoint that runs code where it is unpickled, beside our configuration."""
    import torch

    class Payload:
        def __reduce__(self):
            return open, (str(folder / "payload-was-run"), "w")

    folder = folder.absolute()
    (folder / "evil").mkdir()
    torch.save({"weight": Payload()}, folder / "evil" / "pytorch_model.bin")
    (folder / "evil" / "config.json").write_text((folder / "model" / "config.json").read_text())
    HfApi().create_repo("owner/evil")
    HfApi().upload_folder(repo_id="owner/evil", folder_path=folder / "evil")


def refuse_pickles(folder: Path) -> None:
    """Our classes ask for safetensors, the Auto classes too."""
    from transformers import AutoModel

    import cmmixer_hf

    for loader in (cmmixer_hf.CMMixerForRetrieval, cmmixer_hf.CMMixerForPreTraining, AutoModel):
        for source in ("owner/evil", str(folder / "evil")):
            with pytest.raises(OSError, match="safetensors"):
                loader.from_pretrained(source)
    with pytest.raises(OSError, match="safetensors"):
        cmmixer_hf.CMMixerForRetrieval.from_encoder_pretrained("owner/evil")


FOLDERS = {"CMMixer": "model", "CAVMAE": "cav-mae"}
# Heads that Auto classes lead to, by the endings of their names.
HEADS = {
    "CMMixerForPreTraining": ["ForPreTraining"],
    "CMMixerForVideoClassification": ["ForVideoClassification"],
    "CMMixerForAudioClassification": ["ForAudioClassification"],
    "CAVMAEForPreTraining": ["ForPreTraining"],
    "CAVMAEForAudioVisualClassification": ["ForVideoClassification", "ForAudioClassification"],
}


def share_with_code(folder: Path) -> None:
    """The files go along with the weights: to the Hub, and for every head into a folder."""
    import shutil

    from huggingface_hub import HfApi

    import cmmixer_hf
    from cmmixer_hf.hub import share_with_code

    for name, owned in (("model", "owner/with-code"), ("cav-mae", "owner/cav-mae-with-code")):
        shutil.copytree(folder / name, folder / owned)
        share_with_code(folder / owned)
        HfApi().create_repo(owned)
        HfApi().upload_folder(repo_id=owned, folder_path=folder / owned)
    for name in HEADS:
        family = name.partition("For")[0]
        config = getattr(cmmixer_hf, f"{family}Config").from_pretrained(folder / FOLDERS[family])
        getattr(cmmixer_hf, name)(config).save_pretrained(folder / name)
        share_with_code(folder / name)


def load_without_package(folder: Path) -> None:
    """Models, extractors and processors where this package is not installed; prints a score of each retriever."""
    sys.modules["cmmixer_hf"] = None  # as if it were not there
    import torch
    import transformers
    from transformers import AutoFeatureExtractor, AutoModel, AutoProcessor

    clip = next((folder / "clips").glob("*.mp4"))
    for name, settings in (("", {"num_frames": 2, "image_size": 32}), ("cav-mae-", {"num_frames": 2})):
        model = AutoModel.from_pretrained(f"owner/{name}with-code", trust_remote_code=True).eval()
        processor = AutoProcessor.from_pretrained(f"owner/{name}with-code", trust_remote_code=True)
        extractor = AutoFeatureExtractor.from_pretrained(f"owner/{name}with-code", trust_remote_code=True)
        parts = (model, processor, processor.feature_extractor, extractor)
        assert all(type(part).__module__.startswith("transformers_modules.") for part in parts)
        assert extractor.to_dict().items() >= settings.items()
        with torch.inference_mode():
            print(model(**processor(videos=clip, audio=clip)).logits_per_video.item())
    for name, heads in HEADS.items():
        for head in heads:
            loaded = getattr(transformers, f"AutoModel{head}").from_pretrained(folder / name, trust_remote_code=True)
            assert type(loaded).__name__ == name
            assert type(loaded).__module__.startswith("transformers_modules.")


def load_clips(folder: Path) -> None:
    """Prepared clips come back as they were, all at once or streamed: the usable rows, or the folder as it is."""
    import datasets
    from huggingface_hub import snapshot_download

    from cmmixer_hf.data.batches import unpack_frames, unpack_waveforms
    from cmmixer_hf.data.prepared_clips import load_prepared

    shards = datasets.load_dataset("parquet", data_files=str(folder / "shards" / "*.parquet"), split="train")
    shards.push_to_hub("owner/clips", private=True)
    rows = list(load_prepared(folder / "shards"))
    for name in ("owner/clips", "owner/shards"):
        whole = datasets.load_dataset(name, split="train")
        assert whole.to_list() == rows
        assert list(datasets.load_dataset(name, split="train", streaming=True)) == rows
    assert unpack_frames(whole[0]).shape[-1] == 3
    assert len(unpack_waveforms(whole[0])) == len(unpack_frames(whole[0]))
    assert list(load_prepared(snapshot_download("owner/shards", repo_type="dataset"))) == rows
    assert list(load_prepared("hf://datasets/owner/shards")) == rows


def refuse_clips(folder: Path) -> None:
    """Clips that are private, missing or of another revision; run by a guest."""
    import datasets

    from cmmixer_hf.cli import main
    from cmmixer_hf.data.batches import SourceError
    from cmmixer_hf.data.prepared_clips import load_prepared

    for name in ("owner/secret-shards", "owner/none", "owner/shards@no-such-branch"):
        with pytest.raises(
            SourceError, match=rf"{name} holds no prepared clips: .*; a private one needs `hf auth login`"
        ):
            load_prepared(f"hf://datasets/{name}")
    with pytest.raises(
        datasets.exceptions.DatasetNotFoundError, match="doesn't exist on the Hub or cannot be accessed"
    ):
        datasets.load_dataset("owner/clips")
    assert main(["evaluate", "hf://datasets/owner/none", "--model", str(folder / "model")]) == 1
    assert main(["index", str(folder / "clips"), str(folder / "index"), "--model", "owner/secret"]) == 1


if __name__ == "__main__":
    for step in sys.argv[1].split(","):
        globals()[step](Path(sys.argv[2]))
