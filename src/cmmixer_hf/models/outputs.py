"""Outputs of the models."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class CMMixerModelOutput(ModelOutput):
    """Output of the encoder.

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
    """Output of pre-training.

    Args:
        loss: `video_loss` + `audio_loss`, 1:1; scalar.
        video_loss, audio_loss: reconstruction errors in the units of the normalised stacks, squared.
        video_logits, audio_logits: predicted patches, (batch, tokens, p · p · channels); in training only those of
            `ids_predicted`, (batch, predicted, p · p · channels).
        ids_predicted: (batch, predicted), the hidden patches that were predicted; `None` where all were.
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
    ids_predicted: Tensor | None = None
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
    """Output of retrieval.

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

    @classmethod
    def from_features(
        cls, video: CMMixerFeatures, audio: CMMixerFeatures, *, logits: Tensor, **losses: Tensor | None
    ) -> Self:
        """Both modalities' features, their scores (videos, tracks) and the losses."""
        return cls(
            **losses,
            logits_per_video=logits,
            logits_per_audio=logits.T,
            video_embeds=video.pooler_output,
            audio_embeds=audio.pooler_output,
            video_segment_embeds=video.segment_embeds,
            audio_segment_embeds=audio.segment_embeds,
            hidden_states=video.hidden_states,
            attentions=video.attentions,
            audio_hidden_states=audio.hidden_states,
            audio_attentions=audio.attentions,
        )


@dataclass
class CAVMAEModelOutput(ModelOutput):
    """Output of CAV-MAE's encoder, as far as the given modalities and the model's streams allow.

    Tokens of a clip's K frames follow one another. Under a mask there are fewer of them.

    Args:
        last_hidden_state: of the joint stream, (batch, K · (audio + video tokens), hidden), a frame's pass with the
            sound in front; else of audio or video, as below. All are after the stream's own final norm.
        video_hidden_state: (batch, K · video tokens, hidden).
        audio_hidden_state: (batch, audio tokens, hidden).
        video_mask, audio_mask: (batch · K, tokens) and (batch, tokens), 0 is kept, 1 is removed.
        video_ids_restore, audio_ids_restore: where each token stands among the kept ones followed by the removed ones.
        hidden_states, attentions: of every layer in the order of their runs: the audio layers, the video layers, then
            the joint layers once a stream, joint, audio, video; before them what the first layer got. A frame is a
            row of its own: (batch · K, tokens, hidden).
    """

    last_hidden_state: Tensor | None = None
    video_hidden_state: Tensor | None = None
    audio_hidden_state: Tensor | None = None
    video_mask: Tensor | None = None
    audio_mask: Tensor | None = None
    video_ids_restore: Tensor | None = None
    audio_ids_restore: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CAVMAEForPreTrainingOutput(ModelOutput):
    """Output of CAV-MAE's pre-training; fields of an objective without weight are `None`.

    Args:
        loss: weighted sum of the others; scalar.
        video_loss, audio_loss: reconstruction errors of the masked patches, unweighted.
        contrastive_loss: InfoNCE between the means of the visible tokens over the global batch, unweighted.
        video_logits, audio_logits: predicted patches, (batch, tokens, p · p · channels); a spectrogram has one channel.
        video_embeds, audio_embeds: those means, (batch, hidden), L2-normalised.
        video_mask, audio_mask: (batch, tokens), 1 where the encoder did not see the patch.
        frame: (batch,), which frame of each clip was shown.
        hidden_states, attentions: as in [`CAVMAEModelOutput`], where asked for.
    """

    loss: Tensor | None = None
    video_loss: Tensor | None = None
    audio_loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    video_logits: Tensor | None = None
    audio_logits: Tensor | None = None
    video_embeds: Tensor | None = None
    audio_embeds: Tensor | None = None
    video_mask: Tensor | None = None
    audio_mask: Tensor | None = None
    frame: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


__all__ = [
    "CAVMAEForPreTrainingOutput",
    "CAVMAEModelOutput",
    "CMMixerFeatures",
    "CMMixerForPreTrainingOutput",
    "CMMixerForRetrievalOutput",
    "CMMixerModelOutput",
]
