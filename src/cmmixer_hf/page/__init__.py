"""A page in a browser, and the same functions as tools for programs (MCP): music for a clip, footage for a track.

The names stand in `__init__.pyi`; each is imported when it is first asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
