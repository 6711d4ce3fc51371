"""The house: who may import whom, names that are public, and files that stand alone."""

import ast
from pathlib import Path

import cmmixer_hf

SOURCE = Path(cmmixer_hf.__file__).parent
# A file imports only from lower levels, and inside its level only what stands before it in its line.
LEVELS = (
    ("atomic", "configuration_cmmixer", "outputs", "mixing", "masking", "patching", "layers", "layer_decay", "losses")
    + ("metrics", "scenes", "rendering"),
    ("media", "feature_extraction_cmmixer", "modeling_cmmixer", "index"),
    ("processing_cmmixer", "yardstick", "visualization", "convert"),
    ("data", "report"),
    ("training", "evaluation", "search"),
    ("demo",),
    ("__init__", "cli"),
)
ORDER = {name: place for place, name in enumerate(name for level in LEVELS for name in level)}
WITHIN_A_LEVEL = {("rendering", "scenes")}


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
    assert {path.stem for path in SOURCE.glob("*.py")} <= set(ORDER)


def test_imports_point_down():
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    wrong = [
        f"{path.stem} imports {other}"
        for path in SOURCE.glob("*.py")
        for other in imports(path)
        if level[other] >= level[path.stem] and (path.stem, other) not in WITHIN_A_LEVEL
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
