from .auto_classes import register_auto_classes
from .conversion import convert
from .shared_code import share_with_code

__all__ = ["convert", "register_auto_classes", "share_with_code"]
