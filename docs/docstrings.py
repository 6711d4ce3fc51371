"""Docstrings for the site: examples (`>>>`) become code, references lose their brackets, types their ticks.

Arguments that are described together become an entry each, whose type and default are read from the code.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?m)(?:^>>> .*\n?(?:^(?!\n|>>>).+\n?)*\n?(?=>>>|\n|\Z))+")
TYPE = re.compile(r"(?m)^( +\w+ \()(.*?)(?:, (?:\*optional\*|defaults to .*))?(\): )")
TOGETHER = re.compile(r"(?m)^    (\w+(?:, \w+)+)(?: \(.*?\))?(: .*(?:\n {8}.*)*)")


class PlainMarkdown(griffe.Extension):
    """Rewrites every docstring once it is read."""

    def on_instance(self, *, node: Any, obj: griffe.Object, agent: Any, **kwargs: Any) -> None:
        """For every module, class, function and attribute."""
        if obj.docstring:
            text = re.sub(r"\[(`[^`]+`)\](?![(\[])", r"\1", obj.docstring.value)
            text = TOGETHER.sub(lambda match: "\n".join(f"    {name}{match[2]}" for name in match[1].split(", ")), text)
            text = TYPE.sub(lambda match: match[1] + match[2].replace("`", "") + match[3], text)
            obj.docstring.value = EXAMPLE.sub(lambda match: f"\n```python\n{match[0].strip()}\n```\n", text)

    def on_class_instance(self, *, node: Any, cls: griffe.Class, agent: Any, **kwargs: Any) -> None:
        """Configurations: `strict` makes them dataclasses, as transformers does their base."""
        if any(decorator.callable_path == "huggingface_hub.dataclasses.strict" for decorator in cls.decorators):
            cls.decorators.append(
                griffe.Decorator(griffe.ExprName("dataclasses.dataclass"), lineno=None, endlineno=None)
            )
