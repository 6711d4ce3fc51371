"""What the models return."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class CMMixerModelOutput(ModelOutput):
    """What the encoder returns.

    Args:
        last_hidden_state: (batch, 1 + visible tokens, hidden), the cls token first, after the final norm.
        mask: (batch, tokens), 0 is kept, 1 is removed; `None` where nothing was masked.
        ids_restore: (batch, tokens), where each token stands among the kept ones followed by the removed ones.
        hidden_states, attentions: per layer, where asked for.

    >>> CMMixerModelOutput(last_hidden_state=Tensor(2, 9, 4)).to_tuple()[0].shape
    torch.Size([2, 9, 4])
    """

    last_hidden_state: Tensor | None = None
    mask: Tensor | None = None
    ids_restore: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CMMixerForPreTrainingOutput(ModelOutput):
    """What pre-training returns.

    Args:
        loss: `video_loss` + `audio_loss`, 1:1; scalar.
        video_loss, audio_loss: reconstruction errors in the units of the normalised stacks, squared.
        video_logits, audio_logits: predicted patches, (batch, tokens, p · p · channels).
        mask: (batch, tokens), 1 where the encoder did not see the mixture.
        ids_restore: (batch, tokens).
        mixing_mask: M of Eq. 1, (batch, K, 1, H, W), 1 where the video shows.
        hidden_states, attentions: of the encoder, where asked for.
    """

    loss: Tensor | None = None
    video_loss: Tensor | None = None
    audio_loss: Tensor | None = None
    video_logits: Tensor | None = None
    audio_logits: Tensor | None = None
    mask: Tensor | None = None
    ids_restore: Tensor | None = None
    mixing_mask: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CMMixerFeatures(ModelOutput):
    """Embeddings of one modality.

    Args:
        pooler_output: (batch, hidden), mean over the segments, L2-normalised; for a first search.
        segment_embeds: (batch, K, hidden), P_{i,l} of Eq. 2, each L2-normalised; for the exact score.
        last_hidden_state: (batch, 1 + tokens, hidden).
        hidden_states, attentions: per layer, where asked for.
    """

    pooler_output: Tensor | None = None
    segment_embeds: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CMMixerForRetrievalOutput(ModelOutput):
    """What retrieval returns.

    Args:
        loss: InfoNCE over all segments of the global batch (Eq. 2); scalar.
        logits_per_video: (videos, tracks), mean over l of cos(P^v_l, P^m_l), over τ.
        logits_per_audio: its transpose.
        video_embeds, audio_embeds: pooled, (batch, hidden), L2-normalised.
        video_segment_embeds, audio_segment_embeds: (batch, K, hidden), L2-normalised.
        hidden_states, attentions: of the video tower per layer, where asked for and `embed_chunk_size` is not set.
        audio_hidden_states, audio_attentions: of the audio tower, likewise.
    """

    loss: Tensor | None = None
    logits_per_video: Tensor | None = None
    logits_per_audio: Tensor | None = None
    video_embeds: Tensor | None = None
    audio_embeds: Tensor | None = None
    video_segment_embeds: Tensor | None = None
    audio_segment_embeds: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    audio_hidden_states: tuple[Tensor, ...] | None = None
    audio_attentions: tuple[Tensor, ...] | None = None


__all__ = ["CMMixerFeatures", "CMMixerForPreTrainingOutput", "CMMixerForRetrievalOutput", "CMMixerModelOutput"]
