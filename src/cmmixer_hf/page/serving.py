"""`cmmixer page`: serve the page, and of all files only those that are indexed."""

import mimetypes
import os
import socket

import gradio as gr
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, Response

from ..data.prepared_clips import SourceError
from ..settings import PageSettings
from .finder import Finder
from .layout import FOOTAGE, HERE, MUSIC, build_page

LARGEST_UPLOAD = "200mb"


def serve(settings: PageSettings) -> None:
    """Serve the page until it is stopped.

    Raises:
        SourceError: an index or its model cannot be used, or the port is taken.
    """
    import uvicorn

    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    _check_port(settings)
    server = page_server(settings)
    print(f"the page is at http://{settings.host}:{settings.port}", flush=True)
    if settings.mcp:
        print(f"and its tools, for programs that speak MCP, at http://{settings.host}:{settings.port}/gradio_api/mcp/")
    uvicorn.run(server, host=settings.host, port=settings.port, log_level="warning")


def page_server(settings: PageSettings) -> FastAPI:
    """The page as an application, for any server."""
    music = Finder(settings.music, MUSIC.modality, settings.model) if settings.music else None
    footage = Finder(settings.footage, FOOTAGE.modality, settings.model) if settings.footage else None
    files = {name: path for finder in (music, footage) if finder for name, path in finder.files.items()}
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.get("/media/{name}")
    def media(name: str) -> Response:
        """One indexed file; no other can be named."""
        if name not in files or not os.path.isfile(files[name]):
            raise HTTPException(404)
        return FileResponse(
            files[name], media_type=media_type(files[name]), headers={"X-Content-Type-Options": "nosniff"}
        )

    return gr.mount_gradio_app(
        server,
        build_page(music, footage, settings.pretrained),
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        max_file_size=LARGEST_UPLOAD,
        show_error=True,
        mcp_server=settings.mcp,
        css=(HERE / "page.css").read_text(encoding="utf-8"),
        head=f"<script>{(HERE / 'page.js').read_text(encoding='utf-8')}</script>",
        footer_links=["api"],
    )


def media_type(path: str) -> str:
    """The media type of a file for a browser: audio or video, or else one that it would not run.

    >>> media_type("a.mp3"), media_type("a.html")
    ('audio/mpeg', 'application/octet-stream')
    """
    kind = mimetypes.guess_type(path)[0] or ""
    return kind if kind.startswith(("audio/", "video/")) else "application/octet-stream"


def _check_port(settings: PageSettings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            reason = f"port {settings.port} of {settings.host} cannot be used ({error.strerror})"
            raise SourceError(f"{reason}: choose another with --port") from error
