from dataclasses import dataclass, field, fields

import pytest

from cmmixer_hf.training.settings import TrainingSettings, read_settings, write_settings


@dataclass
class OwnSettings(TrainingSettings):
    """What a script adds."""

    clips: str | None = field(default=None, metadata={"help": "prepared shards"})
    folds: list[int] = field(default_factory=lambda: [1], metadata={"help": "which to train"})


def write(path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    config = write(
        tmp_path / "a.yaml", "learning_rate: 1e-3\nepochs: 5\nwarmup_epochs: 1\nresume: false\nfolds: [2, 3]\n"
    )
    settings = read_settings(OwnSettings, arguments=["--config", config, "--epochs", "7", "--clips", "x"])
    expected = {
        "learning_rate": 1e-3,
        "epochs": 7,
        "warmup_epochs": 1.0,
        "resume": False,
        "folds": [2, 3],
        "clips": "x",
    }
    assert settings == OwnSettings(**expected)


def test_what_a_run_wrote_down_can_be_run_again(tmp_path):
    settings = OwnSettings(
        learning_rate=3e-5, log_with="tensorboard", compile=True, folds=[4, 5], min_learning_rate=0.0
    )
    write_settings(tmp_path / "settings.yaml", settings)
    assert read_settings(OwnSettings, arguments=["--config", str(tmp_path / "settings.yaml")]) == settings


def test_every_setting_is_explained_and_several_classes_share_a_line():
    assert all(len(setting.metadata["help"]) > 10 for setting in fields(TrainingSettings))

    @dataclass
    class Other:
        size: int = field(default=3, metadata={"help": "another"})

    first, second = read_settings(TrainingSettings, Other, arguments=["--size", "5", "--batch-size", "8"])
    assert (first.batch_size, second.size) == (8, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "8"], "--batch"),
        (["--epochs", "many"], "epochs"),
        (["--mixed_precision", "fp8"], "fp8"),
        (["--batch_size", "10", "--repeats", "4"], "multiple of repeats"),
        (["--streaming"], "shuffle_shards"),
        (["--max_steps", "-1"], "max_steps must be at least 0, got -1"),
        (["--warmup_epochs", "nan"], "warmup_epochs must be at least 0, got nan"),
        (["--learning_rate", "nan"], "learning_rate must be positive, got nan"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--config", "FILE"], "'learning_rat', which is no setting; 'learning_rate' is one"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, message, tmp_path, capsys):
    config = write(tmp_path / "a.yaml", "learning_rat: 1\n")
    with pytest.raises(SystemExit):
        read_settings(TrainingSettings, arguments=[config if word == "FILE" else word for word in arguments])
    assert message in capsys.readouterr().err


def test_precision_is_what_accelerate_launch_was_told_unless_it_is_set(monkeypatch):
    assert TrainingSettings().mixed_precision == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert TrainingSettings().mixed_precision == "bf16"
    assert TrainingSettings(mixed_precision="no").mixed_precision == "no"


@pytest.mark.parametrize(
    "changes", [{"epochs": 0}, {"layer_decay": 1.5}, {"learning_rate": 0.0}, {"mixed_precision": "half"}]
)
def test_numbers_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainingSettings(**changes)
