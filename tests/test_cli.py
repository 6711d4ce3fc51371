import importlib
import json
import signal
import subprocess
import sys
from typing import get_type_hints

import pytest

from cmmixer_hf.cli import MENDABLE, VERBS, main
from cmmixer_hf.flags import value_kind


def test_help_of_every_verb_reads_well(capsys):
    for arguments in ([], *([verb] for verb in VERBS)):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--help"])
        assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "==SUPPRESS==" not in text
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "nowhere", "out"], "nowhere is not a folder"),
        (["search", "query.mp4", "nowhere"], "holds no index"),
        (["index", "nowhere", "out", "--model", "model"], "nowhere is not a folder"),
    ],
)
def test_what_cannot_work_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("cmmixer: ")
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_there_is_named(clip_files, tmp_path, capsys):
    library = str(clip_files[0].parent)
    assert main(["index", library, str(tmp_path / "index"), "--model", "./no/such/model"]) == 1
    assert "./no/such/model is neither" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def stop(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("cmmixer_hf.data.preparation.prepare_source", stop)
    assert main(["prepare", "a", "b"]) == 130
    assert "goes on" in capsys.readouterr().err


def test_a_file_that_is_no_video_is_named(tmp_path, capsys):
    (tmp_path / "note.mp4").write_text("not a video")
    assert main(["prepare", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "note.mp4" in capsys.readouterr().err


def test_the_console_script_answers():
    code = "import sys; from cmmixer_hf.cli import main; sys.exit(main(['--version']))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("cmmixer ")


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS)])
@pytest.mark.parametrize("asked", ["--help", "--no_such_flag"])
def test_help_and_mistakes_load_nothing_heavy(arguments, asked):
    code = f"""
import sys
from cmmixer_hf.cli import main
try:
    main({[*arguments, asked]})
finally:
    print(*sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == (0 if asked == "--help" else 2)
    assert not {"torch", "transformers", "datasets", "av", "numpy"} & set(answer.stdout.splitlines()[-1].split())


def test_the_settings_name_the_formats_that_there_are():
    from cmmixer_hf.data.sources.source import SOURCE_KINDS
    from cmmixer_hf.search.faiss_store import INDEX_TYPES
    from cmmixer_hf.settings import SOURCE_FORMATS, IndexSettings

    assert set(SOURCE_FORMATS) == {"auto", *SOURCE_KINDS}
    assert value_kind(get_type_hints(IndexSettings)["index_type"])[2] == list(INDEX_TYPES)


def test_short_flags_are_flags(capsys):
    with pytest.raises(SystemExit):
        main(["search", "query.mp4", "index", "-k", "many"])
    assert "-k" in capsys.readouterr().err


def test_errors_that_can_be_mended_exist():
    for file, name in MENDABLE:
        assert issubclass(getattr(importlib.import_module(f"cmmixer_hf.{file}"), name), Exception)


def test_prepare_index_and_search(clip_files, extractor, tiny_config, tmp_path, capsys):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    from cmmixer_hf import CMMixerForRetrieval, CMMixerProcessor

    library = str(clip_files[0].parent)
    assert main(["prepare", library, str(tmp_path / "prepared"), "--num_frames", "2"]) == 0
    assert "6 clips" in capsys.readouterr().out
    model = str(tmp_path / "model")
    CMMixerForRetrieval(tiny_config).save_pretrained(model)
    CMMixerProcessor(extractor).save_pretrained(model)
    assert main(["index", library, str(tmp_path / "index"), "--model", model, "--modality", "video"]) == 0
    assert "6 items" in capsys.readouterr().out
    assert main(["search", str(clip_files[2]), str(tmp_path / "index"), "--json", "--k", "3"]) == 0
    found = json.loads(capsys.readouterr().out)["matches"]
    assert found[0]["title"] == "clip2"
    assert found[0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert len(found) == 3


STUBBORN = """
import signal, sys, threading, time
from cmmixer_hf import cli, settings
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in the background inherits that it is ignored
def work(settings):
    threading.Thread(target=time.sleep, args=[1000]).start()
    print("working", flush=True)
    time.sleep(1000)
settings.work = work
cli.VERBS["prepare"] = ("PrepareSettings", "settings.work", "")
sys.argv = ["cmmixer", "prepare", "clips", "shards"]
sys.exit(cli.main())
"""


def test_ctrl_c_ends_a_verb_though_its_threads_go_on():
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"working\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 130
        assert b"cmmixer: stopped" in process.stderr.read()
