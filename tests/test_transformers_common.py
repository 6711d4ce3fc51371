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
CAV_MAE_NAMES = (
    ("MODEL_MAPPING_NAMES", cmmixer_hf.CAVMAEModel),
    ("MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES", cmmixer_hf.CAVMAEForAudioVisualClassification),
)
TIME, MEL_BINS = 8, 4
AUDIO_TOKENS, VIDEO_TOKENS = TIME * MEL_BINS // PATCH**2, SIDE**2 // PATCH**2


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
            model_type = model_class.config_class.model_type
            patch = mock.patch.dict(getattr(modeling, names), {model_type: model_class.__name__})
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


class CAVMAETester(Tester):
    """The same for CAV-MAE: sound is a spectrogram (batch, time, mel bins), and layers run in several streams."""

    def __init__(self, *inputs: str, stream: str = "joint", **changed: int):
        super().__init__(*inputs, **changed)
        self.stream = stream

    def get_config(self) -> cmmixer_hf.CAVMAEConfig:
        return cmmixer_hf.CAVMAEConfig(
            image_size=SIDE, patch_size=PATCH, audio_length=TIME, num_mel_bins=MEL_BINS, hidden_size=HIDDEN,
            num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1, decoder_hidden_size=HIDDEN, decoder_num_hidden_layers=2,
            decoder_num_attention_heads=4, decoder_intermediate_size=37, mask_ratio=0.5, num_labels=3,
            classifier_stream=self.stream, attn_implementation="eager",
        )  # fmt: skip

    def prepare_config_and_inputs_for_common(self) -> tuple[cmmixer_hf.CAVMAEConfig, dict[str, torch.Tensor]]:
        """Clips of one frame: the suite compares rows of a batch, and inside the model each frame is a row."""
        drawn = {
            "pixel_values": torch.rand(BATCH, 1, 3, SIDE, SIDE),
            "audio_values": torch.rand(BATCH, TIME, MEL_BINS),
            "video_noise": torch.rand(BATCH, VIDEO_TOKENS),
            "audio_noise": torch.rand(BATCH, AUDIO_TOKENS),
        }
        return self.get_config(), {name: drawn[name] for name in self.inputs}


def layers_run(count: int) -> dict[str, int]:
    """So many runs of layers give so many attentions, and one more hidden state."""
    return {"num_hidden_layers": count, "expected_num_hidden_layers": count + 1}


class CAVMAECommon(Common):
    names = CAV_MAE_NAMES

    @unittest.skip("there are two layers, but they run in several streams")
    def test_num_layers_is_small(self):
        pass


class CAVMAEModelTest(CAVMAECommon, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CAVMAEModel,)
    additional_model_inputs = ("audio_values",)
    tester = CAVMAETester("pixel_values", "audio_values", seq_length=AUDIO_TOKENS, **layers_run(5))


class CAVMAEPreTrainingTest(CAVMAECommon, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CAVMAEForPreTraining,)
    additional_model_inputs = ("audio_values", "video_noise", "audio_noise")
    tester = CAVMAETester("pixel_values", *additional_model_inputs, seq_length=AUDIO_TOKENS // 2, **layers_run(5))


class CAVMAERetrievalTest(CAVMAECommon, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CAVMAEForRetrieval,)
    additional_model_inputs = ("audio_values",)
    tester = CAVMAETester("pixel_values", "audio_values", seq_length=VIDEO_TOKENS, num_hidden_states_types=2)
    tester.video_model_tester, tester.audio_model_tester = CAVMAETester("pixel_values"), CAVMAETester("audio_values")
    skip_test_audio_features_output_shape = True  # it knows of input_values and input_features alone


class CAVMAEJointClassificationTest(CAVMAECommon, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CAVMAEForAudioVisualClassification,)
    additional_model_inputs = ("audio_values",)
    tester = CAVMAETester("pixel_values", "audio_values", seq_length=AUDIO_TOKENS, **layers_run(3))


class CAVMAEVideoClassificationTest(CAVMAECommon, unittest.TestCase):
    all_model_classes = (cmmixer_hf.CAVMAEForAudioVisualClassification,)
    tester = CAVMAETester("pixel_values", stream="video", seq_length=VIDEO_TOKENS)


class ConfigurationTest(unittest.TestCase):
    model_tester = None

    def test_config(self):
        options = {"has_text_modality": False, "hidden_size": 36}
        for config_class in (cmmixer_hf.CMMixerConfig, cmmixer_hf.CAVMAEConfig):
            configuration.ConfigTester(self, config_class=config_class, **options).run_common_tests()


class FeatureExtractorTest(extraction.FeatureExtractionSavingTestMixin, unittest.TestCase):
    feature_extraction_class = cmmixer_hf.CMMixerFeatureExtractor
    feat_extract_dict = {"image_size": 32, "num_frames": 4, "audio_mean": -5.0}  # noqa: RUF012


class CAVMAEFeatureExtractorTest(extraction.FeatureExtractionSavingTestMixin, unittest.TestCase):
    feature_extraction_class = cmmixer_hf.CAVMAEFeatureExtractor
    feat_extract_dict = {"image_size": 32, "audio_length": 512, "audio_mean": -5.0}  # noqa: RUF012
