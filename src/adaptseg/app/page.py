"""The page of `adaptseg app`: drop a photo, see it through trained networks."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio
from markupsafe import Markup
from PIL import Image
from starlette.middleware import Middleware

from adaptseg.app.guard import Guard
from adaptseg.app.photos import find_examples, read_photo, render_examples
from adaptseg.app.result import Choice, result_page
from adaptseg.data.files import FORMATS
from adaptseg.errors import InputError
from adaptseg.segmenter.images import OVERLAY_OPACITY

FIRST_PORT = 7860
PORTS = 100
"""Ports that are tried from `FIRST_PORT` on."""
MAX_UPLOAD = "64mb"
MAX_WAITING = 16
"""Photos in the queue; to further ones the page says that it is full."""
KEPT_SECONDS = 3600
"""How long uploads are kept, for another run to see them."""
THUMBNAIL = (320, 320)
TEMPLATES = Path(__file__).parents[1] / "reports" / "templates"
HEAD = (
    "<h1>adaptseg</h1><p>Drop a photo or pick an example: what the network sees, trained on the source alone and"
    " adapted to the target.</p>"
)


def serve(choices: Sequence[Choice], examples: str | None, folder: Path, host: str, port: int | None) -> None:
    """Serve the page until a signal ends it.

    Args:
        choices: the networks to choose from.
        examples: folder with images to pick from; none: renderings of the embedded streets.
        folder: for the renderings; what is in it can be read by everyone who sees the page.
        host: address to listen on.
        port: to listen on; none: the first that is free from `FIRST_PORT` on.

    Raises:
        InputError: the address cannot be listened on, or there are no examples.
    """
    port = find_port(host, port)
    page = build_page(choices, find_examples(examples) if examples else render_examples(folder))
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        max_file_size=MAX_UPLOAD,
        app_kwargs={"middleware": [Middleware(Guard, folder=folder, host=host)]},
        theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=TEMPLATES / "app.css",
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        print(f"adaptseg app: {page.local_url} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
    finally:
        page.close(verbose=False)


def find_port(host: str, wanted: int | None) -> int:
    """Return the wanted port, or the first free one from `FIRST_PORT` on.

    Raises:
        InputError: the address is none of this machine's, or the port is taken.
    """
    for port in range(FIRST_PORT, FIRST_PORT + PORTS) if wanted is None else [wanted]:
        try:
            family = socket.getaddrinfo(host, port)[0][0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As the server does.
                probe.bind((host, port))
                return port
        except (OSError, OverflowError) as error:
            if wanted is not None or getattr(error, "errno", None) != errno.EADDRINUSE:
                reason = getattr(error, "strerror", None) or error
                raise InputError(f"{host} port {port}: {reason}; choose another --host or --port") from error
    raise InputError(f"{host}: ports {FIRST_PORT} … {FIRST_PORT + PORTS - 1} are all taken; name one with --port")


def build_page(choices: Sequence[Choice], examples: Sequence[Path]) -> gradio.Blocks:
    """Return the page; `examples` are image files, the first of which it opens with."""

    def show(photo: str, choice: int) -> str:
        return show_result(Path(photo), choices[choice])

    def show_upload(photo: str, choice: int) -> tuple[str, str, gradio.Gallery, None]:
        return photo, show(photo, choice), gradio.Gallery(selected_index=None), None  # The next one can be dropped.

    def show_example(event: gradio.SelectData, choice: int) -> tuple[str, str]:
        photo = str(examples[event.index])
        return photo, show(photo, choice)

    page = gradio.Blocks(title="adaptseg", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS))
    with page:
        photo = gradio.State(str(examples[0]))
        gradio.HTML(HEAD, elem_classes="head")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=340):
                # Not gradio.Image: it decodes uploads itself, and the browser would, however large they are.
                upload = gradio.File(label=f"Photo: {', '.join(FORMATS)}", elem_id="upload", height=160)
                gallery = gradio.Gallery(
                    [_thumbnail(path) for path in examples],
                    label="Examples",
                    elem_id="examples",
                    columns=3,
                    height="auto",
                    allow_preview=False,
                    object_fit="cover",
                    buttons=[],
                    interactive=False,
                    selected_index=0,
                )
                labels = [(choice.label, index) for index, choice in enumerate(choices)]
                run = gradio.Dropdown(labels, value=0, label="Run", elem_id="run", filterable=False)
                opacity = gradio.Slider(
                    0, 1, OVERLAY_OPACITY, step=0.01, label="Opacity of the classes", elem_id="opacity", buttons=[]
                )
            with gradio.Column(scale=3, min_width=320):
                result = gradio.HTML(elem_id="result", min_height=300)
        network: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
        page.load(show, [photo, run], result, **network)
        run.input(show, [photo, run], result, **network)
        upload.upload(show_upload, [upload, run], [photo, result, gallery, upload], **network)
        gallery.select(show_example, run, [photo, result], **network)
        # The browser blends: no network runs again, and nothing of a photo is kept here.
        blend = "value => document.documentElement.style.setProperty('--class-opacity', value)"
        opacity.input(None, opacity, js=blend, api_visibility="private")
    page.queue(max_size=MAX_WAITING, api_open=False)
    return page


def show_result(photo: Path, choice: Choice) -> str:
    """Return the HTML of a photo as the networks of a choice see it, or of the message that it cannot be shown."""
    try:
        return result_page(photo.name, read_photo(photo, choice.networks[-1].segmenter.value_range), choice)
    except InputError as error:
        return Markup('<p class="message" role="alert">{}</p>').format(str(error))


def _thumbnail(path: Path) -> Image.Image:
    image = Image.fromarray(read_photo(path))
    image.thumbnail(THUMBNAIL)
    return image
