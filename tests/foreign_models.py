"""Tiny random checkpoints of other families, with real processors and tokenizers, written to a folder; offline."""

from collections.abc import Mapping
from pathlib import Path

import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "calm", "piano", "for", "a", "sunset", "less", "sad", "noise"]


def make_tokenizer(folder: Path, named: Mapping[str, str] | None = None):
    """Whole words, a first token for the text and a last one, and `named` tokens that stand for media."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32 if named is None else 4096,
        extra_special_tokens=dict(named or {}),
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_clap(folder: Path) -> Path:
    """CLAP of 16 components, which fuses long sounds as the published ones may."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    torch.manual_seed(0)
    audio = {
        **{"spec_size": 256, "num_mel_bins": 64, "window_size": 8, "hidden_size": 32, "patch_embeds_hidden_size": 8},
        **{"depths": [1, 1], "num_attention_heads": [2, 2], "num_hidden_layers": 2, "enable_fusion": True},
        "projection_hidden_size": 16,
    }
    text = {
        **{"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 32, "max_position_embeddings": 64, "pad_token_id": 0, "projection_hidden_size": 16},
    }
    audio["hidden_size"] = audio["patch_embeds_hidden_size"] * 2 ** (len(audio["depths"]) - 1)
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16)).save_pretrained(folder)
    ClapProcessor(ClapFeatureExtractor(truncation="fusion"), make_tokenizer(folder)).save_pretrained(folder)
    return folder


def make_pe_av(folder: Path) -> Path:
    """PE-AV of 32 components with pictures of 28 × 28 (needs timm and torchvision)."""
    from transformers import (
        PeAudioFeatureExtractor,
        PeAudioVideoConfig,
        PeAudioVideoModel,
        PeAudioVideoProcessor,
        PeVideoVideoProcessor,
    )

    torch.manual_seed(0)
    size = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    text = {
        **{"model_type": "modernbert", "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 64},
        **{"num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0, "max_position_embeddings": 64},
        **{"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
    }
    vision = {
        **{"model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336", "num_classes": 16},
        **{"do_pooling": True, "global_pool": "map", "initializer_range": 0.02},
        "model_args": {"embed_dim": 64, "img_size": (28, 28), "depth": 1, "num_heads": 4},
    }
    sound = {
        **size,
        "model_type": "pe_audio_encoder",
        "dac_config": {
            **{"model_type": "dac", "encoder_hidden_size": 8, "downsampling_ratios": [2, 8, 10, 12]},
            **{"decoder_hidden_size": 16, "hidden_size": 128, "codebook_dim": 16},
        },
    }
    video = {**size, "model_type": "pe_video_encoder", "vision_config": vision}
    both = {**size, "audio_config": sound, "video_config": video}
    PeAudioVideoModel(PeAudioVideoConfig(text_config=text, audio_video_config=both)).save_pretrained(folder)
    pictures = PeVideoVideoProcessor(
        size={"height": 28, "width": 28},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        do_resize=True,
        do_rescale=True,
        do_normalize=True,
    )
    PeAudioVideoProcessor(PeAudioFeatureExtractor(), pictures, make_tokenizer(folder)).save_pretrained(folder)
    return folder


def make_embedding_gemma(folder: Path) -> Path:
    """EmbeddingGemma 2 of 24 components as a Sentence Transformer, with the published prompts (needs torchvision)."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import (
        EmbeddingGemma2Config,
        EmbeddingGemma2Model,
        EmbeddingGemma2Processor,
        EmbeddingGemma2VideoProcessor,
        Gemma4AudioFeatureExtractor,
        Gemma4ImageProcessor,
    )

    torch.manual_seed(0)
    named = {
        **{"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>"},
        **{"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>", "video_token": "<|video|>"},
    }
    tokenizer = make_tokenizer(folder / "parts", named)
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    ids["eoa_token_index"] = ids.pop("eoa_token_id")
    text = {
        **{"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "embedding_dim": 24},
        **{"hidden_size_per_layer_input": 8, "global_head_dim": 16, "sliding_window": 16, **size},
    }
    vision = {
        **{"model_type": "gemma4_vision", "hidden_size": 16, "intermediate_size": 32, "position_embedding_size": 64},
        **size,
        "num_key_value_heads": 2,
    }
    sound = {
        **{"model_type": "gemma4_audio", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"subsampling_conv_channels": [128, 4], "output_proj_dims": 16},
    }
    config = EmbeddingGemma2Config(text_config=text, vision_config=vision, audio_config=sound, **ids)
    EmbeddingGemma2Model(config).save_pretrained(folder / "parts")
    parts = Gemma4AudioFeatureExtractor(), Gemma4ImageProcessor(), tokenizer, EmbeddingGemma2VideoProcessor()
    EmbeddingGemma2Processor(*parts).save_pretrained(folder / "parts")
    transformer = Transformer(str(folder / "parts"))
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), "mean"), Normalize()]
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"
