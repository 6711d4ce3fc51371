from .finder import Finder
from .layout import build_page
from .serving import PageSettings, page_server, serve

__all__ = ["Finder", "PageSettings", "build_page", "page_server", "serve"]
