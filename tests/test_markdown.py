"""Every block of code of every Markdown file runs as it stands, in a folder that holds what it names, at small size."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY_SIZES, write_noise_clip
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from cmmixer_hf.cli import main as cmmixer

ROOT = Path(__file__).parent.parent
FILES = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()

# Flags that make a command small; they follow its own, and the last of two wins.
SMALL = {
    "examples/pretrain.py": f"--epochs 1 --warmup_epochs 0 --batch_size 4 --model_config '{json.dumps(TINY_SIZES)}'",
    "examples/finetune_retrieval.py": "--epochs 1 --warmup_epochs 0 --batch_size 4",
    "examples/finetune_classification.py": "--epochs 1 --warmup_epochs 0 --batch_size 4",
    "examples/trainer.py": "--max_steps 1 --per_device_train_batch_size 2",
    "benchmarks/claims.py": "--arms none --rates 1e-3 --seeds 0 --pairs 4 --clips 4 --pool 12 --batch_size 2 "
    "--pretraining_steps 1 --finetuning_steps 1",
    "benchmarks/data.py": "--clips short --rounds 1 --sound_seconds 40",
    "benchmarks/decoded_share.py": "--shares 1.0 --seeds 0 --clips 32 --held_out 4 --steps 1",
    "benchmarks/latency.py": "--repeats 1",
    "benchmarks/loop.py": "--clips 32 --epochs 2 --rounds 1",
    "benchmarks/peers.py": "--epochs 1 --arms cmmixer-audio",
    "benchmarks/places.py": "--arms shifted --seeds 0 --pairs 32 --pool 12 --steps 1",
    "benchmarks/recall.py": "--items 60 --queries 10",
    "benchmarks/training.py": "--quick --rounds 1 --precisions fp32",
}
# Heads are as wide as MAE's, 64 in the encoder, of which the decoder has 16.
MAE_SIZES = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 96}
MAE_SIZES |= {"decoder_hidden_size": 32, "decoder_num_attention_heads": 16, "decoder_intermediate_size": 64}
# What is not run here, by how the command begins, and why.
NOT_RUN = {
    "make": "targets make environments and run for minutes; tests/test_readme.py and test_release.py hold their names",
    "pip install": "needs a package index",
    "hf upload": "needs an account; tests/test_hub.py pushes to a server of its own",
    "torchrun": "needs GPUs; tests/test_distributed.py runs two processes",
    "cmmixer prepare-ray": "starts a cluster; tests/data/test_prepare_ray.py does",
    "cmmixer index FOLDER served": "needs a server; tests/search/test_milvus_store.py starts one",
    "cmmixer search clip.mp4 served": "likewise",
    "cmmixer index MUSIC": "downloads weights; `make foreign` runs such a model, small and random",
    "cmmixer search clip.mp4 music-library": "likewise",
    "cmmixer search --text": "likewise",
    "cmmixer page": "serves until it is stopped; tests/test_app.py does",
    "python benchmarks/levels.py": "downloads a game and trains for an hour; test_levels.py has its parts",
    "python benchmarks/library.py": "measures the paper's model, minutes a row",
    "python benchmarks/search.py": "makes indexes of up to a million items",
}
# Blocks that are no commands, by the language that stands behind the fence, and who looks at them.
NO_CODE = {
    "bibtex": "a citation",
    "mermaid": "a picture",
    "diff": "tests/test_contributing.py applies each",
    "ipython": "runs on Colab",
    "text": "what a benchmark prints; test_recorded.py renders it",
}
# Templates, filled in by `render_model_card` and `dataset_card`; the tests of these run what comes out.
TEMPLATES = {"src/cmmixer_hf/training/model_card.md", "src/cmmixer_hf/data/dataset_card.md"}


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block, and "shell" and a line for each line of an indented one."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    indented = re.compile(r"(?<=\n\n)(?: {4}.*\n)+")
    found = [(match.start(), match[1], match[2]) for match in fence.finditer(text)]
    outside = fence.sub(lambda match: re.sub(r"[^\n]", "`", match[0]), text)
    found += [(match.start(), "shell", match[0]) for match in indented.finditer(outside)]
    for _, language, content in sorted(found):
        if language in ("shell", "bash", "sh", "console"):
            yield from (("shell", line.strip().removeprefix("$ ")) for line in content.splitlines() if line.strip())
        else:
            yield language, content


@pytest.fixture(scope="module")
def house(demo_folder, tmp_path_factory) -> Path:
    """A folder in which everything lies that the documents name: the demo, clips, ESC-10, somebody's model."""
    house = tmp_path_factory.mktemp("house")
    for name in ("examples", "benchmarks", "checkpoints"):
        shutil.copytree(ROOT / name, house / name)  # commands write there
    shutil.copytree(demo_folder / "demo", house / "demo")
    clips = house / "demo" / "seed-0" / "clips"
    files = sorted(clips.iterdir())
    (house / "FOLDER").symlink_to(clips)
    (house / "CLIPS.csv").write_text("video\n" + "".join(f"{file.relative_to(house)}\n" for file in files))
    for name in ("my_clip.mp4", "clip.mp4", "track.mp3"):
        (house / name).symlink_to(files[0])
    for number, name in enumerate(re.findall(r"clip-0-\d{5}\.mp4", (ROOT / "README.md").read_text())):
        if not (clips / name).exists():
            (clips / name).symlink_to(files[number % len(files)])
    (house / "short").mkdir()
    write_noise_clip(house / "short" / "clip.mp4", 0)
    write_esc10(house / "esc10")
    mae = ViTMAEConfig(**MAE_SIZES, image_size=32, num_hidden_layers=1, decoder_num_hidden_layers=1)
    ViTMAEForPreTraining(mae).save_pretrained(house / "facebook" / "vit-mae-base")
    return house


def write_esc10(folder: Path) -> None:
    """Two sounds in each of five folds, as ESC-10 is laid out."""
    (folder / "audio").mkdir(parents=True)
    lines = ["file,label,fold"]
    for number in range(10):
        name = f"audio/{number}.mp4"
        write_noise_clip(folder / name, number)
        lines.append(f"{name},{('Rain', 'Rooster')[number % 2]},{1 + number // 2}")
    (folder / "manifest.csv").write_text("\n".join(lines))


def run(command: str, monkeypatch) -> None:
    """Run a line of a shell block in this process."""
    words = shlex.split(command, comments=True)
    if any(command.startswith(f"{start} ") for start in NOT_RUN) or shlex.join(words) in NOT_RUN:
        return
    program, *words = words
    if program == "cmmixer":
        assert cmmixer(words) == 0, command
        return
    assert program == "python", f"{command!r} is neither run nor listed in NOT_RUN with a reason"
    script, *words = words
    monkeypatch.syspath_prepend(str(Path(script).parent))  # as `python` does
    monkeypatch.setattr(sys, "argv", [script, *words, *shlex.split(SMALL.get(script, ""))])
    runpy.run_path(script, run_name="__main__")


@pytest.mark.parametrize("name", sorted({*FILES} - TEMPLATES))
def test_every_block_runs(name, house, monkeypatch, capsys):
    monkeypatch.chdir(house)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for language, content in blocks((ROOT / name).read_text()):
        if language == "python":
            exec(compile(content, name, "exec"), {})
            assert capsys.readouterr().out or "print(" not in content
        elif language == "shell":
            run(content, monkeypatch)
        else:
            assert language in NO_CODE, (
                f"{name} has a block of {language or 'no language'!r}: say in NO_CODE who runs it"
            )


def test_nothing_is_listed_in_vain():
    """Every line of the tables above is about something that stands in a document."""
    found = [block for name in FILES for block in blocks((ROOT / name).read_text())]
    commands = [content for language, content in found if language == "shell"]
    for start in [*NOT_RUN, *(f"python {script}" for script in SMALL)]:
        assert any(command.startswith(start) for command in commands), start
    assert {*NO_CODE} <= {language for language, _ in found}
    assert {*FILES} >= TEMPLATES


def test_blocks_are_found():
    text = (
        "---\na:\n\n    b\n---\nSay\n\n    make x  # y\n    cmmixer z\n\n```python\n1\n\n    2\n```\n```diff\n-a\n```\n"
    )
    expected = [("shell", "make x  # y"), ("shell", "cmmixer z"), ("python", "1\n\n    2\n"), ("diff", "-a\n")]
    assert list(blocks(text)) == expected
