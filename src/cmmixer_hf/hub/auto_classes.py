"""transformers' Auto classes lead to ours, whichever of the two packages is imported first.

Importing transformers to register with it would cost every `import cmmixer_hf` seconds, and scripts, sorted as linters
sort them, import us first. So we register as soon as both sides are loaded: at once, or through Python's own import
hooks (https://docs.python.org/3/reference/import.html#the-meta-path). Nothing of transformers is changed.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_PACKAGE = "cmmixer_hf"
_AUTO = "transformers.models.auto"
_FILES = {"AutoConfig": "configuration", "AutoFeatureExtractor": "feature_extraction", "AutoProcessor": "processing"}


def _family(config: str, **classes: str) -> Iterator[tuple[str, str, str]]:
    """Rows of [`AUTO_CLASSES`] of one configuration: which Auto class leads to which class of ours."""
    for auto, ours in {"AutoConfig": config, **classes}.items():
        yield f"{_AUTO}.{_FILES.get(auto, 'modeling')}_auto.{auto}", f"{_PACKAGE}.{config}", f"{_PACKAGE}.{ours}"


# Their Auto class, our configuration, and the class that the two lead to.
AUTO_CLASSES = (
    *_family(
        "models.configuration_cmmixer.CMMixerConfig",
        AutoModel="models.modeling_cmmixer.CMMixerModel",
        AutoModelForPreTraining="models.modeling_cmmixer.CMMixerForPreTraining",
        AutoModelForVideoClassification="models.modeling_cmmixer.CMMixerForVideoClassification",
        AutoModelForAudioClassification="models.modeling_cmmixer.CMMixerForAudioClassification",
        AutoFeatureExtractor="media.feature_extraction_cmmixer.CMMixerFeatureExtractor",
        AutoProcessor="media.processing_cmmixer.CMMixerProcessor",
    ),
    *_family(
        "models.configuration_cav_mae.CAVMAEConfig",
        AutoModel="models.modeling_cav_mae.CAVMAEModel",
        AutoModelForPreTraining="models.modeling_cav_mae.CAVMAEForPreTraining",
        AutoModelForVideoClassification="models.modeling_cav_mae.CAVMAEForAudioVisualClassification",
        AutoModelForAudioClassification="models.modeling_cav_mae.CAVMAEForAudioVisualClassification",
        AutoFeatureExtractor="media.feature_extraction_cav_mae.CAVMAEFeatureExtractor",
        AutoProcessor="media.processing_cmmixer.CMMixerProcessor",
    ),
)


def register_auto_classes() -> None:
    """Register with the Auto classes that are loaded, and see to it that the others follow when they are."""
    sys.meta_path.insert(0, _WatchingFinder())
    for file in _THEIRS & sys.modules.keys():
        _register(file)


def _file(name: str) -> str:
    return name.rpartition(".")[0]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


_THEIRS = {_file(auto) for auto, *_ in AUTO_CLASSES}
_OURS = f"{_PACKAGE}."


def _register(loaded: str) -> None:
    """Register every class of ours whose both sides are there, now that one more file is."""
    for auto_name, *names in AUTO_CLASSES:
        if _file(auto_name) == loaded:
            for name in names:
                importlib.import_module(_file(name))
        auto, config, ours = _find(auto_name), *map(_find, names)
        if auto and config and ours:
            auto.register(config.model_type if ours is config else config, ours, exist_ok=True)


def _find(name: str) -> Any:
    return getattr(sys.modules.get(_file(name)), _last(name), None)


class _WatchingFinder(MetaPathFinder):
    """Finds their Auto files and all of ours as Python does, and has us register once they have run.

    While a file of ours runs, those it imports may be half there, so nothing is imported on top: what has come to be
    due is registered when the outermost one is through.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.due: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The file's own specification with our loader around its own; None for what is not watched."""
        watched = fullname in _THEIRS or fullname.startswith(_OURS)
        spec = PathFinder.find_spec(fullname, path, target) if watched else None
        if spec and spec.loader:
            spec.loader = _ThenRegister(spec.loader, self)
        return spec

    def run(self, loader: Loader, module: ModuleType) -> None:
        """Let the real loader run a watched file, and register what is due as soon as no file of ours is half done."""
        ours = module.__name__.startswith(_OURS)
        self.depth += ours
        try:
            loader.exec_module(module)
        finally:
            self.depth -= ours
        self.due.append(module.__name__)
        while self.due and not self.depth:
            _register(self.due.pop())


class _ThenRegister(Loader):
    """A loader that gives its place back to the real one, lets it run the module, and registers."""

    def __init__(self, loader: Loader, finder: _WatchingFinder):
        self.loader = loader
        self.finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # `python -m` asks for code, debuggers for source

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the real loader does; then the file is loaded."""
        module.__loader__ = self.loader
        if module.__spec__:
            module.__spec__.loader = self.loader
        self.finder.run(self.loader, module)
