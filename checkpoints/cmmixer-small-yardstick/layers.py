"""One pre-norm Transformer layer, used by every encoder and decoder."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """Plain attention on (batch, heads, tokens, head dim) → output (batch, tokens, heads, head dim), weights."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class CMMixerAttention(nn.Module):
    """Multi-head self-attention over all tokens. Sizes are explicit so that encoder and decoder share the class."""

    def __init__(self, config: PreTrainedConfig, hidden_size: int, num_heads: int):
        super().__init__()
        self.config = config
        self.head_dim = hidden_size // num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: Tensor, **kwargs) -> tuple[Tensor, Tensor | None]:
        """(batch, tokens, hidden) → the same shape, and the attention weights where the implementation gives them."""
        batch_and_tokens = hidden_states.shape[:-1]
        query, key, value = (
            projection(hidden_states).view(*batch_and_tokens, -1, self.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        output, weights = attention(self, query, key, value, None, dropout=dropout, scaling=self.scaling, **kwargs)
        return self.o_proj(output.reshape(*batch_and_tokens, -1).contiguous()), weights


class CMMixerMLP(nn.Module):
    """The layer's feed-forward part."""

    def __init__(self, config: PreTrainedConfig, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.activation = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(batch, tokens, hidden) → the same shape."""
        return self.fc2(self.activation(self.fc1(hidden_states)))


def drop_path(branch: Tensor, rate: float, training: bool) -> Tensor:
    """Stochastic depth: a sample's residual branch (batch, tokens, hidden) is left out with probability `rate`.

    Those that stay are scaled up, so that the expectation is the branch itself, as it is outside training.

    >>> drop_path(torch.ones(4, 1, 1), 0.5, training=True).unique().tolist() in ([0.0], [2.0], [0.0, 2.0])
    True
    """
    if not training or rate == 0:
        return branch
    kept = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= rate
    return branch * kept / (1 - rate)


class CMMixerLayer(GradientCheckpointingLayer):
    """Norm, attention, add; norm, feed-forward, add."""

    def __init__(
        self,
        config: PreTrainedConfig,
        hidden_size: int,
        num_heads: int,
        *,
        intermediate_size: int,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.drop_path_rate = drop_path_rate
        self.layernorm_before: nn.Module = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = CMMixerAttention(config, hidden_size, num_heads)
        self.layernorm_after: nn.Module = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = CMMixerMLP(config, hidden_size, intermediate_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, **kwargs) -> Tensor:
        """(batch, tokens, hidden) → the same shape."""
        return self.transform(hidden_states, (self.layernorm_before, self.layernorm_after), **kwargs)

    def transform(self, hidden_states: Tensor, norms: tuple[nn.Module, nn.Module], **kwargs) -> Tensor:
        """The layer with these two norms, which need not be the only ones that share its weights."""
        before, after = norms
        attended, _ = self.attention(before(hidden_states), **kwargs)
        hidden_states = hidden_states + drop_path(self.dropout(attended), self.drop_path_rate, self.training)
        transformed = self.mlp(after(hidden_states))
        return hidden_states + drop_path(self.dropout(transformed), self.drop_path_rate, self.training)
