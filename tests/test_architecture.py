"""The house: which wing may import which, names that are public, and files that stand alone."""

import ast
import importlib
import re
from itertools import chain
from pathlib import Path

import cmmixer_hf

SOURCE = Path(cmmixer_hf.__file__).parent
ROOT = Path(__file__).parents[1]
# A wing imports from the lines above its own.
FLOORS = """
files flags progress
settings
models media
data
loading
search
evaluation
pictures
training
hub demo page
cli doctor
__init__
"""
FLOOR = {wing: floor for floor, line in enumerate(FLOORS.split("\n")) for wing in line.split()}
SHARED_ON_THE_HUB = ("models", "media")
MODULES = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py")}


def wing(module: str) -> str:
    """The wing of a module, such as `search` of `search.index`."""
    return module.split(".")[0]


def imports(path: Path) -> set[str]:
    """Our own modules that a file imports when it runs; imports for type checkers alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    home = MODULES[path].split(".")
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = home[: len(home) - node.level] + (node.module.split(".") if node.module else [])
            found |= {".".join([*folder, alias.name]) for alias in node.names} | {".".join(folder)}
    return (found & set(MODULES.values())) - {MODULES[path]}


def test_every_file_is_in_a_wing():
    assert {wing(module) for module in MODULES.values()} == set(FLOOR)


def test_imports_point_down():
    """Between wings; inside a wing, files do not import in a circle."""
    wrong = [
        f"{module} imports {other}"
        for path, module in MODULES.items()
        for other in imports(path)
        if wing(other) != wing(module) and FLOOR[wing(other)] >= FLOOR[wing(module)]
    ]
    assert not wrong


def test_no_file_imports_itself_in_a_circle():
    targets = {module: imports(path) for path, module in MODULES.items()}
    left = dict(targets)
    while ground := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in ground:
            del left[module]
    assert not left


def test_every_wing_hands_on_the_names_it_says():
    for name in sorted({module.rpartition(".")[0] for module in MODULES.values()} - {""}):
        module = importlib.import_module(f"cmmixer_hf.{name}")
        names = set(getattr(module, "__all__", ()))
        assert all(hasattr(module, public) for public in names), name
        # A file once imported would stand in the place of a function of the same name.
        assert not names & {path.stem for path in Path(module.__file__).parent.iterdir()}, name


def test_imports_inside_the_package_are_relative():
    absolute = re.compile(r"^ *(from|import) cmmixer_hf\b", re.MULTILINE)
    assert not [path.stem for path in MODULES if absolute.search(path.read_text(encoding="utf-8"))]


def test_what_is_shared_on_the_hub_is_flat():
    """Code that the Hub shares is copied as neighbours of one folder."""
    shared = [path for name in SHARED_ON_THE_HUB for path in (SOURCE / name).glob("*.py") if path.stem != "__init__"]
    assert len({path.stem for path in shared}) == len(shared)
    assert not [path.stem for path in shared if re.search(r"^\s*from \.(\.|\w+\.)", path.read_text(), re.MULTILINE)]


def test_every_public_name_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in cmmixer_hf.__all__ if f"`{name}`" not in readme]


def test_users_code_imports_from_the_package_or_a_wing():
    wings = {"cmmixer_hf", "cmmixer_hf.models.baselines"} | {f"cmmixer_hf.{name}" for name in FLOOR}
    users = chain(*((ROOT / name).rglob("*") for name in ("examples", "benchmarks", "model_cards")))
    users = chain(users, [ROOT / "README.md"], SOURCE.rglob("*.md"))
    wrong = [
        f"{path.name}: {module}"
        for path in users
        if path.suffix in (".py", ".md", ".ipynb")
        for module in re.findall(r"from (cmmixer_hf[\w.]*) import", path.read_text(encoding="utf-8"))
        if module not in wings
    ]
    assert not wrong


def test_no_name_stands_in_two_files():
    """Of what is defined at module level and not private; a logger is every file's own."""
    places: dict[str, list[str]] = {}
    for path, module in MODULES.items():
        for name in _defined(path):
            places.setdefault(name, []).append(module)
    twice = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert not {name for name in twice if not name.startswith("_") and name != "logger"}


def _defined(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)} | {getattr(node, "name", "_")}
    return names
