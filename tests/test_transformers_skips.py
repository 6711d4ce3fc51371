"""What transformers' common tests skip on our classes, they skip on ViTMAE too."""

import unittest

import pytest
import torch
import upstream
from transformers import ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel

if not upstream.available():
    pytest.skip("transformers' common tests are absent: run `make upstream`", allow_module_level=True)

import test_transformers_common as ours

TOKENS = 16
# Both are about checkpoints with names of before version 5, which ViTMAE has and a new model has not.
OLD_NAMES = {"test_reverse_loading_mapping", "test_can_load_from_already_mapped_keys"}
# CAV-MAE's two layers run in several streams, so that no one index counts them; ViTMAE has one stream.
STREAMS = {"test_num_layers_is_small", "test_can_capture_specific_layers_hidden_states"}


class ViTMAETester(ours.Tester):
    """ViTMAE as small as ours."""

    def get_config(self) -> ViTMAEConfig:
        """The sizes of our tester."""
        return ViTMAEConfig(
            image_size=8, patch_size=2, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=37, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, decoder_hidden_size=32,
            decoder_num_hidden_layers=2, decoder_num_attention_heads=4, decoder_intermediate_size=37, mask_ratio=0.5,
            attn_implementation="eager",
        )  # fmt: skip

    def prepare_config_and_inputs_for_common(self) -> tuple[ViTMAEConfig, dict[str, torch.Tensor]]:
        """Pictures of 8 × 8 and noise for their 16 patches."""
        inputs = {"pixel_values": torch.rand(3, 3, 8, 8), "noise": torch.rand(3, TOKENS)}
        return self.get_config(), {name: inputs[name] for name in self.inputs}


class ViTMAETest(ours.modeling.ModelTesterMixin, unittest.TestCase):
    __test__ = False
    test_resize_embeddings = False
    all_model_classes = (ViTMAEModel, ViTMAEForPreTraining)

    def setUp(self):
        self.model_tester = ViTMAETester("pixel_values", "noise", seq_length=1 + TOKENS // 2)


def skipped(case: type[unittest.TestCase]) -> set[str]:
    """Names of the tests that a class skips; subtests, which name the model in brackets, count as their test."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return {test.id().rsplit(".", 1)[1].split(" ")[0] for test, _ in result.skipped}


@pytest.fixture(scope="module")
def skipped_by_vit_mae() -> set[str]:
    return skipped(ViTMAETest)


@pytest.mark.parametrize("case", [case for case in vars(ours).values() if getattr(case, "all_model_classes", None)])
def test_nothing_is_skipped_that_vit_mae_does_not_skip(case, skipped_by_vit_mae):
    allowed = OLD_NAMES | (STREAMS if issubclass(case, ours.CAVMAECommon) else set())
    assert skipped(case) <= skipped_by_vit_mae | allowed
