import torch
from torch import nn

from cmmixer_hf import CMMixerForRetrieval
from cmmixer_hf.data import collate_clips
from cmmixer_hf.evaluation import ClipEmbeddings, embed_clips, evaluate_retrieval
from cmmixer_hf.prepare import prepare_clip


def test_batches_do_not_change_embeddings(clip_files, sampling, extractor, tiny_config):
    from datasets import Dataset

    clips = Dataset.from_list([prepare_clip(file, sampling) for file in clip_files])
    model = CMMixerForRetrieval(tiny_config)
    whole, parts = (embed_clips(model, clips, extractor, batch_size=size, progress=False) for size in (6, 4))
    torch.testing.assert_close(whole.video, parts.video)
    torch.testing.assert_close(whole.audio, parts.audio)
    stacks = extractor(videos=collate_clips([clips[3]])["frames"])
    torch.testing.assert_close(model.eval().get_video_features(**stacks).segment_embeds[0], whole.video[3])
    assert whole.video.shape == (6, 2, 32)


def test_scores_of_noise_are_those_of_chance():
    generator = torch.Generator().manual_seed(0)
    video, audio = (nn.functional.normalize(torch.randn(400, 2, 32, generator=generator), dim=-1) for _ in range(2))
    scores = evaluate_retrieval(ClipEmbeddings(video, audio))
    assert scores["chance"]["R@10"] == 2.5
    for direction in ("video_to_audio", "audio_to_video"):
        assert abs(scores[direction]["R@10"] - 2.5) < 4 * 100 * (0.025 * 0.975 / 400) ** 0.5
        assert abs(scores[direction]["median_rank"] - 200.5) < 40


def test_one_embedding_for_all_scores_chance_not_perfection():
    same = nn.functional.normalize(torch.ones(100, 2, 8), dim=-1)
    scores = evaluate_retrieval(ClipEmbeddings(same, same))
    assert scores["video_to_audio"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "median_rank": 50.5}
