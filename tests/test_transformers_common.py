"""Our classes under transformers' own common tests of models, configurations and feature extractors."""

import unittest
from unittest import mock

import pytest
import torch
import upstream

import cmmixer_hf

if not upstream.available():
    pytest.skip("transformers' common tests are absent: run `make upstream`", allow_module_level=True)

modeling = upstream.load("test_modeling_common")
configuration = upstream.load("test_configuration_common")
extraction = upstream.load("test_feature_extraction_common")

# The suite draws noise for (image_size / patch_size)² tokens: four frames of 4 × 4 have as many as a picture of 8 × 8.
BATCH, FRAMES, SIDE, PATCH, HIDDEN = 3, 4, 4, 2, 32
TOKENS = FRAMES * (SIDE // PATCH) ** 2
# The suite knows by these tables of names which class has no loss and which ones take labels.
NAMES = (
    ("MODEL_MAPPING_NAMES", cmmixer_hf.CMMixerModel),
    ("MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES", cmmixer_hf.CMMixerForVideoClassification),
    ("MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES", cmmixer_hf.CMMixerForAudioClassification),
)


class Tester:
    """The small configuration and the inputs that the common tests ask for."""

    __test__ = False
    batch_size, image_size, patch_size, num_channels = BATCH, 2 * SIDE, PATCH, 3
    hidden_size, num_attention_heads, num_hidden_layers = HIDDEN, 4, 2
    seq_length = 1 + TOKENS
    is_training = True

    def __init__(self, *inputs: str, **changed: int):
        self.inputs = inputs
        vars(self).update(changed)

    def get_config(self) -> cmmixer_hf.CMMixerConfig:
        """Small enough for seconds, with dropout as ViTMAE's tester has it."""
        return cmmixer_hf.CMMixerConfig(
            image_size=SIDE, patch_size=PATCH, num_frames=FRAMES, hidden_size=HIDDEN, num_hidden_layers=2,
            num_attention_heads=4, intermediate_size=37, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
            decoder_hidden_size=HIDDEN, decoder_num_hidden_layers=2, decoder_intermediate_size=37, num_labels=3,
            learnable_temperature=True, attn_implementation="eager",
        )  # fmt: skip

    def prepare_config_and_inputs_for_common(self) -> tuple[cmmixer_hf.CMMixerConfig, dict[str, torch.Tensor]]:
        """A configuration and a batch for one model's forward."""
        stack = (BATCH, FRAMES, 3, SIDE, SIDE)
        shapes = {
            "pixel_values": stack,
            "audio_values": stack,
            "mixing_mask": (BATCH, FRAMES, 1, SIDE, SIDE),
            "noise": (BATCH, TOKENS),
        }
        return self.get_config(), {name: torch.rand(shapes[name]) for name in self.inputs}


class Common(modeling.ModelTesterMixin):
    """Settings of all our models; what a subclass adds is its tester."""

    test_resize_embeddings = False
    names = NAMES
    tester = Tester("pixel_values")

    def setUp(self):
        self.model_tester = self.tester
        for names, model_class in self.names:
            patch = mock.patch.dict(getattr(modeling, names), {"cmmixer": model_class.__name__})
            patch.start()
            self.addCleanup(patch.stop)

    @unittest.skip("there are no inputs_embeds, as in ViTMAE")
    def test_inputs_embeds(self):
        pass

    def test_model_get_set_embeddings(self):
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            assert isinstance(model.get_input_embeddings(), torch.nn.Module)
            assert model.get_output_embeddings() is None


class ModelTest(Common, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CMMixerModel,)


class PreTrainingTest(Common, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CMMixerForPreTraining,)
    additional_model_inputs = ("audio_values", "mixing_mask", "noise")
    tester = Tester("pixel_values", "audio_values", "mixing_mask", "noise", seq_length=1 + TOKENS // 2)


class RetrievalTest(Common, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CMMixerForRetrieval,)
    names = ()  # two base models have no one prefix: from_encoder_pretrained loads them
    additional_model_inputs = ("audio_values",)
    tester = Tester("pixel_values", "audio_values", num_hidden_states_types=2)
    tester.video_model_tester, tester.audio_model_tester = Tester("pixel_values"), Tester("audio_values")
    skip_test_audio_features_output_shape = True  # it knows of input_values and input_features alone


class VideoClassificationTest(Common, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CMMixerForVideoClassification,)


class AudioClassificationTest(Common, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CMMixerForAudioClassification,)
    tester = Tester("audio_values")


class ConfigurationTest(unittest.TestCase):
    model_tester = None

    def test_config(self):
        options = {"has_text_modality": False, "hidden_size": 36}
        configuration.ConfigTester(self, config_class=cmmixer_hf.CMMixerConfig, **options).run_common_tests()


class FeatureExtractorTest(extraction.FeatureExtractionSavingTestMixin, unittest.TestCase):
    feature_extraction_class = cmmixer_hf.CMMixerFeatureExtractor
    feat_extract_dict = {"image_size": 32, "num_frames": 4, "audio_mean": -5.0}  # noqa: RUF012
