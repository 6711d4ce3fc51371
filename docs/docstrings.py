"""Docstrings for the site: examples (`>>>`) become code, references lose their brackets, types their ticks."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?m)(?:^>>> .*\n?(?:^(?!\n|>>>).+\n?)*\n?(?=>>>|\n|\Z))+")
TYPE = re.compile(r"(?m)^( +\w[\w, ]* \()(.*)(\): )")


class PlainMarkdown(griffe.Extension):
    """Rewrites every docstring once it is read."""

    def on_instance(self, *, node: Any, obj: griffe.Object, agent: Any, **kwargs: Any) -> None:
        """For every module, class, function and attribute."""
        if obj.docstring:
            text = re.sub(r"\[(`[^`]+`)\](?![(\[])", r"\1", obj.docstring.value)
            text = TYPE.sub(lambda match: match[1] + match[2].replace("`", "") + match[3], text)
            obj.docstring.value = EXAMPLE.sub(lambda match: f"\n```python\n{match[0].strip()}\n```\n", text)
