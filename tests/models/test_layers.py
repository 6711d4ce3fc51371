"""One Transformer layer: its attention, its stochastic depth."""

import pytest
import torch
from transformers import AttentionInterface

from cmmixer_hf import CMMixerConfig
from cmmixer_hf.models.layers import CMMixerAttention, CMMixerLayer, drop_path, eager_attention_forward


def config(**options) -> CMMixerConfig:
    return CMMixerConfig(hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=1, **options)


def test_eager_attention_is_torch_attention():
    query, key, value = torch.randn(3, 2, 4, 7, 8)
    module = torch.nn.Module().eval()
    output, weights = eager_attention_forward(module, query, key, value, None, scaling=8**-0.5)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(output.transpose(1, 2), expected)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 7))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_tokens_may_come_in_any_order(implementation):
    layer = CMMixerLayer(config(attn_implementation=implementation), 32, 4, intermediate_size=64).eval()
    tokens, order = torch.randn(2, 9, 32), torch.randperm(9)
    torch.testing.assert_close(layer(tokens)[:, order], layer(tokens[:, order]))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_drops_out_in_training_alone(implementation):
    attention = CMMixerAttention(config(attn_implementation=implementation, attention_probs_dropout_prob=0.5), 32, 4)
    tokens = torch.randn(2, 9, 32)
    plain = CMMixerAttention(config(attn_implementation=implementation), 32, 4)
    plain.load_state_dict(attention.state_dict())
    torch.testing.assert_close(attention.eval()(tokens)[0], plain.eval()(tokens)[0])
    assert not torch.allclose(attention.train()(tokens)[0], attention(tokens)[0])


def test_attention_asks_the_attention_interface():
    shapes = []

    def probe(module, query, key, value, attention_mask, **kwargs):
        shapes.append((tuple(query.shape), kwargs["scaling"], module.is_causal))
        return eager_attention_forward(module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register("probe_of_one_layer", probe)
    asking = config()
    asking._attn_implementation = "probe_of_one_layer"
    CMMixerAttention(asking, 32, 4)(torch.randn(2, 9, 32))
    assert shapes == [((2, 4, 9, 8), 8**-0.5, False)]


def test_drop_path_keeps_whole_samples_and_the_mean():
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 3), 0.25, training=True)
    assert torch.equal(dropped.amax((1, 2)), dropped.amin((1, 2)))
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(4 / 3).item()}
    assert abs(dropped.mean() - 1) < 0.04


@pytest.mark.parametrize(("rate", "training"), [(0.9, False), (0.0, True)])
def test_drop_path_does_nothing_at_rate_zero_or_outside_training(rate, training):
    branch = torch.randn(4, 2, 3)
    assert drop_path(branch, rate, training) is branch


def test_a_layer_left_out_is_the_identity():
    layer = CMMixerLayer(config(), 32, 4, intermediate_size=64, drop_path_rate=1 - 1e-7).train()
    tokens = torch.randn(2, 9, 32)
    assert torch.equal(layer(tokens), tokens)
