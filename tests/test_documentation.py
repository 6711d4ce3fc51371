"""Every public name says what it is, what it takes and of which shape."""

import inspect
import re
from collections.abc import Callable, Iterator

import pytest
from torch import Tensor
from transformers import PreTrainedConfig

import cmmixer_hf

CLASSES = [getattr(cmmixer_hf, name) for name in cmmixer_hf.__all__]
SHAPE = re.compile(r"\([\w ·.…]+,[^)]*\)|as in \[")


def methods() -> Iterator[tuple[type, str, Callable]]:
    """What can be called of the public classes and was written here, each where it was written."""
    ours = {base for public in CLASSES for base in public.__mro__ if base.__module__.startswith("cmmixer_hf.")}
    for base in sorted(ours, key=lambda base: base.__name__):
        for name, value in vars(base).items():
            function = inspect.unwrap(getattr(value, "__func__", value))
            written = inspect.isfunction(function) and function.__code__.co_filename == inspect.getfile(base)
            if written and (not name.startswith("_") or name in ("__call__", "__init__")):
                yield base, name, function


METHODS = [pytest.param(*entry, id=f"{entry[0].__name__}.{entry[1]}") for entry in methods()]


def told(owner: type, name: str, function: Callable) -> str:
    """The words on a method, with its class's where these speak for it."""
    parts = [function.__doc__, owner.__doc__ if name in ("__init__", "__call__", "forward") else None]
    return "\n".join(filter(None, parts))


def parameters(function: Callable) -> list[inspect.Parameter]:
    """What a caller gives."""
    taken = inspect.signature(function).parameters.values()
    return [one for one in taken if one.kind is not one.VAR_KEYWORD and one.name not in ("self", "cls")]


@pytest.mark.parametrize("public", CLASSES)
def test_names_are_explained(public):
    assert public.__doc__ not in (None, public.__mro__[1].__doc__)


@pytest.mark.parametrize("config", [public for public in CLASSES if issubclass(public, PreTrainedConfig)])
def test_fields_of_configurations_are_explained(config):
    inherited = {"model_type", "attribute_map", "keys_to_ignore_at_inference"}
    fields = {name for name in inspect.get_annotations(config) if not name.startswith("_")} - inherited
    assert len(fields) > 10
    assert not [name for name in fields if not re.search(rf"\b{name}\b", config.__doc__)]


@pytest.mark.parametrize(("owner", "name", "function"), METHODS)
def test_arguments_are_explained(owner, name, function):
    """By name where there are several; one alone is what the first sentence is about."""
    words, taken = told(owner, name, function), [parameter.name for parameter in parameters(function)]
    assert words
    if len(taken) > 1 and "as in [" not in words:
        assert not [name for name in taken if not re.search(rf"\b{name}\b", words)]


@pytest.mark.parametrize(("owner", "name", "function"), METHODS)
def test_tensors_have_shapes(owner, name, function):
    if any(parameter.annotation in (Tensor, Tensor | None) for parameter in parameters(function)):
        assert SHAPE.search(told(owner, name, function))
