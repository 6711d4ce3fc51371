from .auto_classes import register_auto_classes, share_with_code
from .conversion import convert

__all__ = [
    "convert",
    "register_auto_classes",
    "share_with_code",
]
