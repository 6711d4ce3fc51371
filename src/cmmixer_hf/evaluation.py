"""Retrieval over a whole pool of clips (§4.4)."""

from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .data import StackMaker, collate_clips
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .metrics import chance_metrics, retrieval_metrics, segment_similarity
from .modeling_cmmixer import CMMixerForRetrieval

DIRECTIONS = ("video_to_audio", "audio_to_video")


@dataclass(frozen=True)
class ClipEmbeddings:
    """Segment embeddings of a pool, `video` and `audio`, each (clips, K, hidden), L2-normalised."""

    video: Tensor
    audio: Tensor


@torch.inference_mode()
def embed_clips(
    model: CMMixerForRetrieval,
    clips: Dataset,
    extractor: CMMixerFeatureExtractor,
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> ClipEmbeddings:
    """Embed both modalities of prepared clips, without augmentation."""
    was_training = model.training
    model.eval()
    loader = DataLoader(clips, batch_size=batch_size, collate_fn=collate_clips)
    make_stacks = StackMaker(extractor)
    video, audio = [], []
    for batch in tqdm(loader, desc="embedding", unit="batch", disable=not progress):
        stacks = {name: stack.to(model.device) for name, stack in make_stacks(batch).items()}
        video.append(model.get_video_features(stacks["pixel_values"])["segment_embeds"].cpu())
        audio.append(model.get_audio_features(stacks["audio_values"])["segment_embeds"].cpu())
    model.train(was_training)
    return ClipEmbeddings(torch.cat(video), torch.cat(audio))


def evaluate_retrieval(embeddings: ClipEmbeddings) -> dict[str, dict[str, float]]:
    """R@1/5/10 and median rank by segment similarity, both directions, one right candidate a query, chance beside it.

    >>> segments = torch.nn.functional.normalize(torch.randn(20, 8, 64), dim=-1)
    >>> evaluate_retrieval(ClipEmbeddings(segments, segments))["video_to_audio"]["R@1"]
    100.0
    """
    similarity = segment_similarity(embeddings.video, embeddings.audio)
    scores = {
        name: retrieval_metrics(pairs) for name, pairs in zip(DIRECTIONS, (similarity, similarity.T), strict=True)
    }
    return scores | {"chance": chance_metrics(len(similarity))}
