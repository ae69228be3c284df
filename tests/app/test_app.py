"""Photos as people have them, the choice between runs, and the HTML of a result; none of it needs gradio."""

from __future__ import annotations

import base64
import io
import re
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from adaptseg.app.photos import MAX_SIDE, SHOWN_SIDE, find_examples, read_photo, render_examples, shown_size
from adaptseg.app.result import Choice, Network, read_choices, result_page
from adaptseg.cli import main
from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.methods.configuration import build_config
from adaptseg.models.build import build_network
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.training.loop import train
from tests.conftest import small_experiment, write_images

CPU = torch.device("cpu")
RED, BLUE = (200, 0, 0), (0, 0, 255)


def flag() -> Image.Image:
    """48 x 32, red, its upper left quarter blue."""
    pixels = np.full((32, 48, 3), RED, np.uint8)
    pixels[:16, :24] = BLUE
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG that says that it has 30000 x 30000 pixels."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cmyk.jpg", lambda: saved(flag().convert("CMYK"), "jpeg", quality=95)),
        ("transparent.png", lambda: saved(flag().convert("RGBA"), "png")),
        ("palette.png", lambda: saved(flag().quantize(4), "png")),
        ("still.webp", lambda: saved(flag(), "webp", lossless=True)),
        ("misnamed.png", lambda: saved(flag(), "jpeg", quality=95)),
    ],
)
def test_each_kind_of_photo_has_its_colours(tmp_path: Path, name: str, data: Callable[[], bytes]) -> None:
    (tmp_path / name).write_bytes(data())
    photo = read_photo(tmp_path / name)
    assert photo.shape == (32, 48, 3)
    for pixel, colour in ((photo[6, 8], BLUE), (photo[26, 8], RED), (photo[6, 40], RED)):
        np.testing.assert_allclose(pixel.astype(int), colour, atol=8)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photo_is_upright(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    path = tmp_path / "telephone.jpg"
    path.write_bytes(saved(flag(), "jpeg", exif=exif, quality=95))
    photo = read_photo(path)
    assert photo.shape == ((32, 48, 3) if turn < 5 else (48, 32, 3))
    # EXIF, orientation: where the stored upper left corner belongs.
    row, column = {1: (4, 4), 2: (4, -4), 3: (-4, -4), 4: (-4, 4), 5: (4, 4), 6: (4, -4), 7: (-4, -4), 8: (-4, 4)}[turn]
    np.testing.assert_allclose(photo[row, column].astype(int), BLUE, atol=8)
    np.testing.assert_allclose(photo[-row, -column].astype(int), RED, atol=8)


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (40, 1))).save(tmp_path / "thermal.png")
    photo = read_photo(tmp_path / "thermal.png")[0]
    np.testing.assert_allclose(photo, np.arange(256)[:, None].repeat(3, 1), rtol=0, atol=1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable image"),
        (b"hello", "not a readable image (unknown format)"),
        (saved(flag(), "jpeg")[:-60], "not a readable image (Truncated File Read)"),
        (bomb(), "more than 100000000 pixels; scale the image down"),
        (saved(Image.new("1", (MAX_SIDE + 1, 4000)), "png"), f"more than {MAX_SIDE} a side"),
        (saved(Image.new("RGB", (900, 100)), "png"), "900x100 pixels, a side over 8 times the other"),
        (saved(Image.new("F", (9, 9)), "tiff"), "32 bits for each pixel"),
    ],
    ids=["empty", "text", "truncated", "bomb", "side", "narrow", "float"],
)
def test_what_cannot_be_shown_is_said_in_a_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "photo.png").write_bytes(data)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_photo(tmp_path / "photo.png")
    assert str(error.value).startswith("photo.png: ")  # Not where the server keeps it.


def test_a_photo_that_was_deleted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^gone\.jpg: no longer kept here; drop it again$"):
        read_photo(tmp_path / "gone.jpg")


def test_large_photos_are_scaled_down(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), RED).save(tmp_path / "large.jpg")
    photo = read_photo(tmp_path / "large.jpg")
    assert photo.shape == (3000, 4000, 3)  # The network sees it all.
    assert shown_size(photo) == (SHOWN_SIDE, SHOWN_SIDE * 3 // 4)


def test_examples(tmp_path: Path) -> None:
    rendered = render_examples(tmp_path)
    assert len({read_photo(path).tobytes() for path in rendered}) == len(rendered) == 6
    write_images(tmp_path / "own", [f"{number:02}" for number in range(15)], labels=False)
    assert [path.stem for path in find_examples(str(tmp_path / "own"))] == [f"{number:02}" for number in range(12)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in it"):
        find_examples(str(tmp_path / "empty"))
    write_images(tmp_path / "labelled", ["a"], labels=True)
    assert find_examples(str(tmp_path / "labelled")) == [tmp_path / "labelled/images/a.png"]


def network(title: str, seed: int, bias: int | None = None) -> Network:
    """A random network, or one that sees the class `bias` everywhere."""
    model = ModelConfig(backbone="resnet18", width=8, levels=1)
    segmenter = Segmenter(build_network(model, 3, seed), LabelSpace("own", ("road", "car", "<sky>"))).eval()
    if bias is not None:
        with torch.no_grad():
            *_, last = (value for name, value in segmenter.named_parameters() if name.endswith("bias"))
            last[bias] += 1e4
    return Network(title, segmenter)


def pictures(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'src="data:[^,]*,([^"]*)"', page)]


def test_a_result_has_the_prediction_its_shares_and_its_entropy(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    before, after = network("source only", 3), network("adapted (<i>)", 0, bias=2)
    page = result_page("<b>.jpg", photo, Choice("", (before, after)))
    shown = pictures(page)
    assert [picture.size for picture in shown] == [(64, 48)] * 6
    palette = before.segmenter.label_space.palette
    train_ids = before.segmenter.predict(photo)
    np.testing.assert_array_equal(np.asarray(shown[1].convert("RGB")), palette[train_ids])
    np.testing.assert_array_equal(np.asarray(shown[3].convert("RGB")), palette[np.full((48, 64), 2)])
    assert np.asarray(shown[5]).max() < 8  # No doubt: black.
    assert np.asarray(shown[4]).max() > 100
    assert re.findall(r"mean ([^<]+)<", page)[1] == "0.00"
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))
    share = 100 * (train_ids == 2).mean()
    assert f"&lt;sky&gt; {share:.1f} → 100.0" in text.replace("– →", "0.0 →")
    assert "<b>.jpg" not in page
    assert "<i>)" not in page


def test_one_network_alone() -> None:
    page = result_page("x", np.zeros((32, 48, 3), np.uint8), Choice("", (network("source only", 0, bias=1),)))
    assert len(pictures(page)) == 3
    assert "→" not in page
    assert re.findall(r'class="name">([^<]*)<', page) == ["car"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/own, runs/own-source, and elsewhere/source with the same."""
    root = tmp_path_factory.mktemp("app")
    content = small_experiment(root)
    for name, method in (
        ("runs/own", "adaptsegnet"),
        ("runs/own-source", "source_only"),
        ("else/where", "source_only"),
    ):
        options = [f"--method.name={method}", "--train.steps=1", "--train.tensorboard=false"]
        train(build_config(content, options), root / name)
    return root


def test_the_source_only_run_is_given_named_or_found(runs: Path) -> None:
    own, beside, elsewhere = runs / "runs" / "own", runs / "runs" / "own-source", runs / "else" / "where"
    (found,) = read_choices([own], None, CPU)
    assert [network.title for network in found.networks] == ["source only", "adapted (adaptsegnet)"]
    assert re.fullmatch(r"own, mIoU \d+\.\d %", found.label)
    (given,) = read_choices([elsewhere, own, own], None, CPU)
    (named,) = read_choices([own], elsewhere, CPU)
    assert len(given.networks) == len(named.networks) == 2
    (alone,) = read_choices([beside], None, CPU)
    assert [network.title for network in alone.networks] == ["source only"]
    with pytest.raises(InputError, match="its method is adaptsegnet; name a source_only run"):
        read_choices([own], own, CPU)


def test_a_baseline_is_loaded_once_and_equal_names_are_told_apart(runs: Path, tmp_path: Path) -> None:
    own = runs / "runs" / "own"
    copy = tmp_path / "own"
    shutil.copytree(own, copy, symlinks=True)
    choices = read_choices([own, copy, runs / "runs" / "own-source"], None, CPU)
    assert [choice.label.partition(", ")[0] for choice in choices] == [str(own), str(copy)]
    assert choices[0].networks[0].segmenter is choices[1].networks[0].segmenter


def test_without_gradio(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("adaptseg.errors.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit_:
        main(["app", str(runs / "runs" / "own")])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "adaptseg: adaptseg app needs gradio; pip install 'adaptseg[app]'\n"


def test_ports() -> None:
    pytest.importorskip("gradio", reason="gradio, the extra `app`, is not installed")
    from adaptseg.app.page import FIRST_PORT, find_port

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match="in use; choose another --host or --port"):
            find_port("127.0.0.1", port)
    assert find_port("127.0.0.1", port) == port
    with socket.create_server(("127.0.0.1", find_port("127.0.0.1", None))) as first:
        assert find_port("127.0.0.1", None) > first.getsockname()[1] >= FIRST_PORT
    for host, port in (("no.such.host.invalid", 8000), ("127.0.0.1", 99_999), ("203.0.113.1", 8000)):
        with pytest.raises(InputError, match="choose another --host or --port"):
            find_port(host, port)
