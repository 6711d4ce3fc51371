"""Docstrings for the site: examples (`>>>`) become blocks of code, and references lose their brackets."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?m)(?:^>>> .*\n?(?:^(?!\n|>>>).+\n?)*\n?(?=>>>|\n|\Z))+")


class PlainMarkdown(griffe.Extension):
    """Rewrites every docstring once it is read."""

    def on_instance(self, *, node: Any, obj: griffe.Object, agent: Any, **kwargs: Any) -> None:
        """For every module, class, function and attribute."""
        if obj.docstring:
            text = re.sub(r"\[(`[^`]+`)\](?![(\[])", r"\1", obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub(lambda match: f"\n```python\n{match[0].strip()}\n```\n", text)
