"""The house: who may import whom, names that are public, and files that stand alone."""

import ast
from pathlib import Path

import cmmixer_hf

SOURCE = Path(cmmixer_hf.__file__).parent
# A file imports only from the paragraphs above its own.
LEVELS = """
atomic auto_classes card_results configuration_cmmixer dataset_card encoding feature_extraction_cmmixer
feature_statistics flags intervals layer_decay layers losses masking metrics mixing opening order outputs patching
pictures prepared_clips processes rows safe_loading scenes settings splits stopping

checkpoints classification_metrics configuration_cav_mae decoding feature_extraction_cav_mae frozen_features
index_facts labels model_card modeling_cmmixer optimization ranking_losses rendering results sound visualization

data embedding_map faiss_store figures layers_cav_mae layouts media milvus_store modeling_baseline report resuming
run_folder twins

cards clips health index inference loading modeling_cav_mae modeling_cbmvr modeling_cvmvae modeling_mvpt
processing_cmmixer training_log yardstick

classification convert deduplication doctor embedder evaluation folders manifests match_picture model_inputs
modeling_cmmvr recipes survey

arms bent_queries mteb_encoder published scoring search streams training

experiment shards sources

prepare

demo library prepare_ray

bulk_embedding

unfinished

__init__ cli indexing
"""
LEVEL = {name: number for number, level in enumerate(LEVELS.split("\n\n")) for name in level.split()}


def imports(path: Path) -> set[str]:
    """Our own modules that a file imports when it runs; imports for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found & {file.stem for file in SOURCE.glob("*.py")}


def test_every_file_has_its_level():
    assert {path.stem for path in SOURCE.glob("*.py")} <= set(LEVEL)


def test_imports_point_down():
    wrong = [
        f"{path.stem} imports {other}"
        for path in SOURCE.glob("*.py")
        for other in imports(path)
        if LEVEL[other] >= LEVEL[path.stem]
    ]
    assert not wrong


def test_imports_inside_the_package_are_relative():
    absolute = [path.stem for path in SOURCE.glob("*.py") if "from cmmixer_hf" in path.read_text().split('"""', 2)[-1]]
    assert not absolute


def test_the_package_is_flat():
    assert not [path for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_every_public_name_is_in_the_readme():
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert not [name for name in cmmixer_hf.__all__ if f"`{name}`" not in readme]
