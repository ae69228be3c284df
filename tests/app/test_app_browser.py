"""The page of `adaptseg app`, used in a real browser: Debian's chromium, driven by chromedriver, without a screen."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import ExifTags, Image

from adaptseg.methods.configuration import build_config
from adaptseg.training.loop import train
from tests.app.test_app import bomb
from tests.conftest import CLASSES, PATIENCE, small_experiment

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
for library in ("gradio", "selenium"):  # Imported where they are used: gradio takes seconds.
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed", allow_module_level=True)
if CHROMIUM is None or CHROMEDRIVER is None:
    pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)", allow_module_level=True)

# Nothing is asked of other hosts but by the page itself, which is tested.
QUIET = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1300,1000"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapted runs and the source-only run that they are compared with, of one step each."""
    root = tmp_path_factory.mktemp("runs")
    content = small_experiment(root)
    names = {
        "own": ["--method.name=adaptsegnet"],
        "other": ["--method.name=minent", "--method.lambda_ent=[0.1]"],
        "own-source": ["--method.name=source_only"],
    }
    for name, method in names.items():
        train(build_config(content, [*method, "--train.steps=1", "--train.tensorboard=false"]), root / name)
    return [root / name for name in names]


class Server:
    """`adaptseg app` in a process of its own."""

    def __init__(self, runs: list[Path], temporary: Path) -> None:
        """Start it, and wait until it says where it is."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        command = [sys.executable, "-m", "adaptseg", "app", *map(str, runs), "--port", str(self.port)]
        environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == f"adaptseg app: {self.address} (Ctrl-C ends it)\n", line + self.process.communicate()[1]

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body; a redirection would be followed."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def server(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, with a folder for temporary files of its own."""
    server = Server(runs, tmp_path_factory.mktemp("temporary"))
    yield server
    server.process.kill()
    server.process.communicate()


class Page:
    """The page in a browser."""

    def __init__(self, browser: Any) -> None:
        """Take the browser."""
        self.browser = browser

    def open(self, address: str) -> None:
        """Open the page, and wait for the first result."""
        self.browser.get(address)
        self.wait(lambda: self.all("#result .views img"))

    def wait(self, condition: Any) -> None:
        """Wait until a condition holds."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, PATIENCE).until(lambda _: condition())

    def all(self, selector: str) -> list[Any]:
        """Return the elements of a CSS selector."""
        found: list[Any] = self.browser.find_elements("css selector", selector)
        return found

    def texts(self, selector: str) -> list[str]:
        """Return the visible texts of elements."""
        return [element.text for element in self.all(selector)]

    def changes_after(self, action: Any) -> None:
        """Do something, and wait until another result is shown."""
        script = "return document.querySelector('#result .result, #result .message')?.outerHTML"
        before = self.browser.execute_script(script)
        action()
        self.wait(lambda: self.browser.execute_script(script) not in (None, before))

    def upload(self, path: Path) -> None:
        """Drop a file."""
        self.wait(lambda: self.all("#upload input[type=file]"))  # It is a new one after each upload.
        self.changes_after(lambda: self.all("#upload input[type=file]")[0].send_keys(str(path)))


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A browser that logs what it asks of whom, and every error of the page."""
    webdriver: Any = import_module("selenium.webdriver")

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in [*QUIET.split(), f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield Page(browser)
    browser.quit()


def asked_hosts(browser: Any) -> set[str | None]:
    """Return the hosts of all requests that the page has made."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return {urlparse(url).hostname for url in urls if url.startswith("http")}  # Not data: and chrome:


def photo(path: Path, turn: int = 1) -> Path:
    """Write a photo of 900 x 600 pixels, blue above and grey below, turned as a telephone does."""
    pixels = np.full((600, 900, 3), (90, 90, 90), np.uint8)
    pixels[:300] = (120, 160, 240)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.slow
def test_the_page_in_use(server: Server, page: Page, tmp_path: Path) -> None:
    page.open(server.address)
    assert page.texts("#result .photo") == ["street 1.png, 640×320"]
    page.upload(photo(tmp_path / "mine.jpg", turn=6))
    assert page.texts("#result .photo") == ["mine.jpg, 600×900"]
    captions = ["source only", "adapted (adaptsegnet)"]
    assert page.texts("#result .views figcaption b") == captions
    assert all(re.fullmatch(r"mean [01]\.\d\d", text) for text in page.texts("#result figcaption small"))
    assert page.texts("#result .legend .name")
    assert set(page.texts("#result .legend .name")) <= set(CLASSES)
    sizes = page.browser.execute_script(
        "return [...document.querySelectorAll('#result img')].map(i => [i.complete, i.naturalWidth, i.naturalHeight])"
    )
    assert sizes == [[True, 600, 900]] * 6

    overlay = "return getComputedStyle(document.querySelector('.overlay .classes')).opacity"
    assert page.browser.execute_script(overlay) == "0.55"
    from selenium.webdriver.common.keys import Keys

    page.all("#opacity input[type=range]")[0].send_keys(Keys.END)
    page.wait(lambda: page.browser.execute_script(overlay) == "1")

    page.changes_after(lambda: page.all("#examples button")[3].click())
    assert page.texts("#result .photo") == ["street 4.png, 640×320"]
    assert page.browser.execute_script(overlay) == "1", "the slider's place holds for the next photo"
    page.all("#run input")[0].click()
    page.wait(lambda: len(page.all("[role=option]")) == 2)
    page.changes_after(lambda: page.all("[role=option]")[1].click())
    assert page.texts("#result .views figcaption b") == ["source only", "adapted (minent)"]
    assert page.texts("#result .photo") == ["street 4.png, 640×320"], "the photo stays"

    picture = Image.open(io.BytesIO(page.browser.get_screenshot_as_png())).convert("RGB")
    picture.save(tmp_path / "app.png")
    assert picture.width >= 1200
    assert len(picture.getcolors(picture.width * picture.height) or ()) > 1000, "an empty page"
    assert asked_hosts(page.browser) == {"127.0.0.1"}
    assert [entry for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.slow
def test_what_cannot_be_shown_is_said_on_the_page(server: Server, page: Page, tmp_path: Path) -> None:
    page.open(server.address)
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "bomb.png").write_bytes(bomb())
    page.upload(tmp_path / "text.png")
    (message,) = page.texts("#result .message")
    assert message == "text.png: not a readable image (unknown format); replace or remove the file"
    page.upload(tmp_path / "bomb.png")
    assert page.texts("#result .message") == ["bomb.png: more than 100000000 pixels; scale the image down"]
    assert "Traceback" not in page.browser.page_source
    page.upload(photo(tmp_path / "fine.png"))
    assert page.texts("#result .photo") == ["fine.png, 900×600"]


def test_no_file_of_the_server_is_reachable(server: Server, runs: list[Path]) -> None:
    assert server.get("")[0] == 200
    secret = runs[0] / "config.yaml"
    for path in (
        f"gradio_api/file={secret}",
        "gradio_api/file=/etc/passwd",
        f"gradio_api/file={Path.cwd() / 'pyproject.toml'}",
        f"file={secret}",
        f"gradio_api/file=../../../../..{secret}",
        f"gradio_api/file=%2e%2e/%2e%2e{secret}",
        f"static/../../../../../..{secret}",
        f"theme.css/../..{secret}",
        f"gradio_api/stream/x/y/../../..{secret}",
        f"gradio_api/proxy=http://127.0.0.1:{server.port}/",
    ):
        status, body = server.get(path)
        assert status in (400, 403, 404, 405), (path, status)
        assert b"adaptsegnet" not in body
        assert b"root:" not in body
    names = json.loads(server.get("gradio_api/info")[1])
    assert names == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    name = socket.gethostbyname(socket.gethostname())
    if name.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError):  # noqa: PT011 - Refused or unreachable, as the system says it.
        socket.create_connection((name, server.port), timeout=5)


def test_an_interrupt_ends_it_and_leaves_nothing(runs: list[Path], tmp_path: Path) -> None:
    server = Server(runs[:1], tmp_path)
    assert list(tmp_path.glob("adaptseg-app-*"))
    server.process.send_signal(signal.SIGINT)
    _, errors = server.process.communicate(timeout=PATIENCE)
    assert server.process.returncode == 0
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
