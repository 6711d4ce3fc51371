from .finder import Finder as Finder
from .layout import build_page as build_page
from .serving import PageSettings as PageSettings
from .serving import page_server as page_server
from .serving import serve as serve
