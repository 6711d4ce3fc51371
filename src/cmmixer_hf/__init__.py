"""CMMixer in the Hugging Face way: video and audio are images (arXiv 2308.13820).

The public names stand in `__init__.pyi`; each is imported when it is first asked for.
"""

import lazy_loader

from .hub.auto_classes import register_auto_classes

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register_auto_classes()
