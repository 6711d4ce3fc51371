import pytest

from cmmixer_hf import CMMixerModel
from cmmixer_hf.cli import main


def test_the_command_writes_a_card_and_says_how_to_share(tiny_config, tmp_path, capsys):
    CMMixerModel(tiny_config).save_pretrained(tmp_path)
    assert main(["card", str(tmp_path), "--name", "me/encoder", "--license", "mit"]) == 0
    assert f"hf upload me/encoder {tmp_path}" in capsys.readouterr().out
    assert "# me/encoder" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_another_folder_is_refused(folder, tmp_path, capsys):
    assert main(["card", str(tmp_path / folder)]) == 1
    assert "holds neither config.json nor part-*.parquet" in capsys.readouterr().err
