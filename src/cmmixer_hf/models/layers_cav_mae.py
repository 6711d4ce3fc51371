"""Parts of CAV-MAE: positions, a branch a modality, joint layers with norms for each stream, a decoder."""

import torch
from torch import Tensor, nn

from .configuration_cav_mae import CAVMAEConfig
from .layers import CMMixerLayer
from .masking import kept_tokens, restore, select
from .patching import check_stack, patchify, sincos_positions

# In the order of their tokens in the joint stream.
TOKEN_ORDER = ("audio", "video")
INPUTS = {"joint": TOKEN_ORDER, "audio": ("audio",), "video": ("video",)}


class CAVMAEPositions(nn.Module):
    """Position and modality of a token: computed positions plus one learned vector a modality."""

    def __init__(self, config: CAVMAEConfig, modality: str, dim: int):
        super().__init__()
        self.modality_token = nn.Parameter(torch.zeros(1, 1, dim))
        height, width = config.num_mel_bins, config.audio_length
        if modality == "video":
            height = width = config.image_size
        self.grid = height // config.patch_size, width // config.patch_size
        tokens = self.grid[0] * self.grid[1]
        self.offsets = nn.Parameter(torch.zeros(1, tokens, dim)) if config.learned_positions else None

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """For a grid of (rows, columns): (1, rows · columns, dim). Beyond the grid that was trained, offsets are 0."""
        dim, device = self.modality_token.shape[-1], self.modality_token.device
        places = sincos_positions(1, grid, dim, device=device)[None] + self.modality_token
        if self.offsets is None:
            return places
        (rows, columns), (known_rows, known_columns) = grid, self.grid
        missing = (0, 0, 0, columns - known_columns, 0, rows - known_rows)  # a negative number crops
        return places + nn.functional.pad(self.offsets.unflatten(1, self.grid), missing).flatten(1, 2)


class CAVMAEBranch(nn.Module):
    """The part of one modality: the projection of its patches, its positions, and the layers before the joint ones."""

    def __init__(self, config: CAVMAEConfig, modality: str):
        super().__init__()
        self.patch_size = config.patch_size
        self.projection = nn.Linear(patch_pixels(config, modality), config.hidden_size)
        self.positions = CAVMAEPositions(config, modality, config.hidden_size)
        heads, inner = config.num_attention_heads, config.intermediate_size
        self.layers = nn.ModuleList(
            CMMixerLayer(config, config.hidden_size, heads, intermediate_size=inner)
            for _ in range(config.num_hidden_layers - config.num_joint_layers)
        )

    def forward(self, stack: Tensor, ids_keep: Tensor | None, **kwargs) -> Tensor:
        """A stack of one frame or spectrogram, (batch, 1, channels, H, W) → (batch, kept or all tokens, hidden)."""
        patches, positions = patchify(stack, self.patch_size), self.positions(patch_grid(stack, self.patch_size))
        if ids_keep is not None:
            positions = positions.expand(patches.shape[0], -1, -1)
            patches, positions = select(patches, ids_keep), select(positions, ids_keep)
        hidden_states = self.projection(patches.to(next(self.projection.parameters(), patches).dtype))
        hidden_states = hidden_states + positions.to(hidden_states.dtype)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        return hidden_states


class CAVMAEJointLayer(CMMixerLayer):
    """A layer whose attention and feed-forward part all streams share; each stream has norms of its own."""

    def __init__(self, config: CAVMAEConfig, streams: tuple[str, ...]):
        inner = config.intermediate_size
        super().__init__(config, config.hidden_size, config.num_attention_heads, intermediate_size=inner)
        self.layernorm_before = stream_norms(config, streams)
        self.layernorm_after = stream_norms(config, streams)

    def forward(self, hidden_states: Tensor, stream: str, **kwargs) -> Tensor:  # type: ignore[override]
        """(batch, tokens, hidden) → the same shape, with the norms of `stream`."""
        norms = self.layernorm_before.get_submodule(stream), self.layernorm_after.get_submodule(stream)
        return self.transform(hidden_states, norms, **kwargs)


class CAVMAEDecoder(nn.Module):
    """Visible and mask tokens of both modalities → patches of both, in one sequence, with a head for each."""

    def __init__(self, config: CAVMAEConfig):
        super().__init__()
        width = config.decoder_hidden_size
        self.mask_ratio = config.mask_ratio
        self.embed = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.ModuleDict({modality: CAVMAEPositions(config, modality, width) for modality in TOKEN_ORDER})
        heads, inner = config.decoder_num_attention_heads, config.decoder_intermediate_size
        self.layers = nn.ModuleList(
            CMMixerLayer(config, width, heads, intermediate_size=inner) for _ in range(config.decoder_num_hidden_layers)
        )
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.heads = nn.ModuleDict(
            {modality: nn.Linear(width, patch_pixels(config, modality)) for modality in TOKEN_ORDER}
        )

    def forward(
        self, encoded: Tensor, ids_restore: dict[str, Tensor], grids: dict[str, tuple[int, int]], **kwargs
    ) -> dict[str, Tensor]:
        """(batch, visible tokens of both, hidden) → patches a modality, (batch, tokens, p · p · channels)."""
        lengths = [ids_restore[modality].shape[1] for modality in TOKEN_ORDER]
        visible = self.embed(encoded).split([kept_tokens(length, self.mask_ratio) for length in lengths], 1)
        restored = [
            restore(part, self.mask_token, ids_restore[modality]) + self.positions[modality](grids[modality])
            for modality, part in zip(TOKEN_ORDER, visible, strict=True)
        ]
        hidden_states = torch.cat(restored, 1).to(encoded.dtype)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        parts = self.layernorm(hidden_states).split(lengths, 1)
        return {modality: self.heads[modality](part) for modality, part in zip(TOKEN_ORDER, parts, strict=True)}


def spectrogram_stack(audio_values: Tensor, config: CAVMAEConfig) -> Tensor:
    """Spectrograms (batch, time, mel bins) → (batch, 1, 1, mel bins, time): one channel, low frequencies first."""
    if audio_values.ndim != 3 or audio_values.shape[2] != config.num_mel_bins:
        shape = tuple(audio_values.shape)
        raise ValueError(f"expected spectrograms of shape (batch, time, {config.num_mel_bins}), got {shape}")
    return check_stack(audio_values.transpose(1, 2)[:, None, None], config.patch_size, 1)


def patch_grid(stack: Tensor, patch_size: int) -> tuple[int, int]:
    """Rows and columns of a stack's patches."""
    return stack.shape[-2] // patch_size, stack.shape[-1] // patch_size


def patch_pixels(config: CAVMAEConfig, modality: str) -> int:
    """Numbers in a patch: a spectrogram has one channel."""
    return config.patch_size**2 * (config.num_channels if modality == "video" else 1)


def stream_norms(config: CAVMAEConfig, streams: tuple[str, ...]) -> nn.ModuleDict:
    """One norm a stream."""
    return nn.ModuleDict({stream: nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) for stream in streams})
