from .auto_classes import register_auto_classes as register_auto_classes
from .conversion import convert as convert
from .shared_code import share_with_code as share_with_code
