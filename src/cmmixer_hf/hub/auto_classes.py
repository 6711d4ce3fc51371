"""transformers' Auto classes lead to ours, whichever of the two packages is imported first.

Importing transformers to register with it would cost every `import cmmixer_hf` seconds, and scripts, sorted as linters
sort them, import us first. So we register with the files of its Auto classes that are loaded, and through Python's own
import hooks (https://docs.python.org/3/reference/import.html#the-meta-path) with each other one as soon as it is. They
are loaded amid imports of transformers and of ours, when no model can be imported yet: what is registered is a stand-in
that imports the class when it is first used. Nothing of transformers is changed.
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


# Their Auto class, our configuration, and the class that the two lead to; a configuration leads to itself.
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
    """Register with the Auto classes that are loaded, and with the others when they are."""
    sys.meta_path.insert(0, _AutoFinder())
    for file in sorted(_AUTO_FILES & sys.modules.keys()):
        _register(sys.modules[file])


def load_named(name: str) -> Any:
    """The class of a module and name, its file imported."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


class _LoadedLater:
    """A stand-in for a class of ours in a table of transformers: it has its name and forwards everything else to it.

    It equals that class, can be derived from, and answers `isinstance` and `issubclass` as the class does.

    Args:
        name: module and name of the class.
        config: the configuration that leads to it, which transformers compares when it registers.
    """

    def __init__(self, name: str, config: type):
        self._path, self.__name__ = name, name.rpartition(".")[2]
        self.config_class = config

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return load_named(self._path)(*arguments, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._path, self.config_class)

    def __eq__(self, other: object) -> bool:
        return other is self or other is load_named(self._path)

    def __hash__(self) -> int:
        return hash(load_named(self._path))

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type]:
        return (load_named(self._path),)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, load_named(self._path))

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, load_named(self._path))

    def __getattr__(self, name: str) -> Any:
        return getattr(load_named(self._path), name)


_AUTO_FILES = {auto.rpartition(".")[0] for auto, *_ in AUTO_CLASSES}


def _register(file: ModuleType) -> None:
    """Register with the Auto classes of a file of transformers."""
    for auto_name, config_name, name in AUTO_CLASSES:
        module, _, auto = auto_name.rpartition(".")
        if module == file.__name__:
            config = load_named(config_name)
            key = config.model_type if name == config_name else config
            ours = config if name == config_name else _LoadedLater(name, config)
            getattr(file, auto).register(key, ours, exist_ok=True)


class _AutoFinder(MetaPathFinder):
    """Finds the files of the Auto classes as Python does, and has us register once they have run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The file's own specification with our loader around its own; None for every other file."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in _AUTO_FILES else None
        if spec and spec.loader:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    """A loader that gives its place back to the real one, lets it run the module, and registers."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # debuggers ask for source

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the real loader does; then the file is loaded."""
        module.__loader__ = self.loader
        if module.__spec__:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        _register(module)
