"""The notebook runs from its first cell to its last with the released checkpoint, and shares what it trained."""

from pathlib import Path

import pytest
from hub_server import HubServer
from huggingface_hub import ModelCard

nbformat = pytest.importorskip("nbformat", reason="running a notebook needs nbclient")
nbclient = pytest.importorskip("nbclient", reason="running a notebook needs nbclient")
pytest.importorskip("ipykernel", reason="running a notebook needs ipykernel")

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "cmmixer.ipynb"


@pytest.fixture(scope="module")
def server():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory, server):
    """The notebook after all of its cells have run, on a handful of clips."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    ours = {"HOME": ROOT, "WORK": folder / "work", "CLIPS": 12, "STEPS": 2, "HUB_NAME": "owner/notebook"}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in ours.items():
            environment.setenv(f"CMMIXER_{name}", str(value))
        environment.setenv("HF_ENDPOINT", server.url)
        environment.setenv("HF_TOKEN", "hf_owner")
        environment.setenv("HF_HOME", str(folder / "home"))
        environment.setenv("HF_HUB_DISABLE_XET", "1")
        environment.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        environment.setenv("DISABLE_SAFETENSORS_CONVERSION", "1")
        client = nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}})
        client.execute()
    return notebook


def outputs(notebook) -> list:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_every_cell_runs_without_a_warning(run):
    assert all(cell.execution_count for cell in run.cells if cell.cell_type == "code")
    assert not [output.text for output in outputs(run) if output.get("name") == "stderr"]


def test_there_is_something_to_look_at_and_to_listen_to(run):
    shown = [output.data for output in outputs(run) if "data" in output]
    assert sum("image/png" in data for data in shown) >= 9
    pages = "".join(data.get("text/html", "") for data in shown)
    assert pages.count("<audio") >= 5
    assert "<video" in pages
    assert "<svg" in pages


def test_what_was_trained_is_on_the_hub(run, server):
    repository = server.hub.repositories["model", "owner/notebook"]
    files = repository.commits[repository.branches["main"]]
    assert {"README.md", "config.json", "model.safetensors", "processor_config.json"} <= set(files)
    card = ModelCard(files["README.md"].decode())
    assert "# owner/notebook" in card.text
    assert {result.metric_type for result in card.data.eval_results} >= {"recall_at_1", "median_rank"}
    assert "came back from owner/notebook" in outputs(run)[-1].text


def test_the_notebook_is_kept_without_outputs():
    """A number or a picture that no test makes again would soon be wrong."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not outputs(notebook)
    assert not any(cell.get("execution_count") for cell in notebook.cells)
