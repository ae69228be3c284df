"""Reading files from folders and archives."""

import io
import multiprocessing
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptseg.data.files import FolderTree, decode_image, decode_label, open_image, resize_image, resize_label
from adaptseg.data.layouts import archives
from adaptseg.data.layouts.archives import JoinedTree, ZipTree, find_tree
from adaptseg.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/2.txt", "a/1.txt", "b/c/3.txt", ".hidden/4.txt", "a/.5.txt"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    return tmp_path / "folder"


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    return pack(tmp_path / "all.zip", folder)


def pack(archive: Path, folder: Path, around: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(folder.rglob("*")):
            target.write(path, around + path.relative_to(folder).as_posix())
    return archive


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_lists_its_files_sorted_and_without_hidden_ones(folder: Path) -> None:
    tree = FolderTree(folder)
    assert tree.names() == ["a/1.txt", "a/2.txt", "b/c/3.txt"]
    assert tree.names("b") == ["b/c/3.txt"]
    assert tree.names("nowhere") == []
    assert tree.read("b/c/3.txt") == b"b/c/3.txt" * 100


def test_linked_folders_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "6.txt").touch()
    (folder / "b" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "b" / "circle").symlink_to(folder, target_is_directory=True)
    assert FolderTree(folder).names("") == ["a/1.txt", "a/2.txt", "b/c/3.txt", "b/link/6.txt"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        FolderTree(tmp_path / "none")
    assert "no such folder" in one_line(error)
    with pytest.raises(InputError, match="cannot be read"):
        FolderTree(tmp_path).read("none.png")


def test_an_archive_equals_its_folder_byte_for_byte(folder: Path, archive: Path) -> None:
    tree, reference = ZipTree(archive), FolderTree(folder)
    assert tree.names() == reference.names()
    assert tree.names("a") == reference.names("a")
    for name in reference.names():
        assert tree.read(name) == reference.read(name)
    assert tree.where("a/1.txt") == str(archive / "a" / "1.txt")


def test_an_archive_may_have_a_folder_around_its_contents(folder: Path, tmp_path: Path) -> None:
    pack(tmp_path / "all.zip", folder, "Release_1/")
    tree = find_tree(tmp_path, "b/c", ["all.zip"])
    assert tree is not None
    assert tree.read("b/c/3.txt") == b"b/c/3.txt" * 100
    assert tree.where("b/c/3.txt") == str(tmp_path / "all.zip" / "Release_1" / "b" / "c" / "3.txt")


def test_folders_come_before_archives_and_archives_join(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a").mkdir()
    (tmp_path / "more" / "a" / "9.txt").write_bytes(b"nine")
    data = tmp_path / "data"
    data.mkdir()
    pack(data / "01_part.zip", folder)
    pack(data / "02_part.zip", tmp_path / "more")
    tree = find_tree(data, "a", ["[0-9][0-9]_part.zip"])
    assert isinstance(tree, JoinedTree)
    assert tree.names("a") == ["a/1.txt", "a/2.txt", "a/9.txt"]
    assert tree.read("a/9.txt") == b"nine"
    assert tree.where("a/9.txt") == str(data / "02_part.zip" / "a" / "9.txt")
    with pytest.raises(InputError, match="no such file"):
        tree.read("a/10.txt")
    # One of them unpacked to a folder of its name.
    os.rename(data / "02_part.zip", tmp_path / "02_part.zip")
    os.rename(tmp_path / "more", data / "02_part")
    tree = find_tree(data, "a", ["[0-9][0-9]_part.zip"])
    assert tree is not None
    assert tree.where("a/9.txt") == str(data / "02_part" / "a" / "9.txt")
    (data / "a").mkdir()
    assert isinstance(find_tree(data, "a", ["[0-9][0-9]_part.zip"]), FolderTree)
    assert find_tree(data, "z", ["[0-9][0-9]_part.zip"]) is None


def test_an_archive_can_be_the_root(archive: Path) -> None:
    for root in (archive, archive / "b"):
        tree = find_tree(root, "c", [])
        assert tree is not None
        assert tree.names("c") == ["c/3.txt"]
    assert find_tree(archive / "a", "c", []) is None


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_archive_survives_a_fork(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as target:  # Large enough for no buffer to hold all of it.
        target.writestr("large", os.urandom(2**20))
    tree = ZipTree(archive)
    tree.read("large")
    file = tree._open().fp
    assert file is not None
    position = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(tree.read("b/c/3.txt")))
    child.start()
    assert results.get() == b"b/c/3.txt" * 100
    child.join(20)
    # Had the child read through the parent's open file, it would have moved the parent's position too.
    assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == position
    assert tree.read("a/2.txt") == b"a/2.txt" * 100


def test_an_archive_can_be_sent_to_another_process(archive: Path) -> None:
    tree = pickle.loads(pickle.dumps(ZipTree(archive)))
    assert tree.read("a/1.txt") == b"a/1.txt" * 100


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_truncated_archive(archive: Path, keep: float) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError) as error:
        ZipTree(archive)
    message = one_line(error)
    assert message.startswith(f"{archive}: damaged or truncated zip archive")
    assert message.endswith("download it again")


def test_a_member_that_is_damaged(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    start = data.index(b"a/1.txt") + len(b"a/1.txt")
    data[start : start + 10] = bytes(10)
    archive.write_bytes(data)
    with pytest.raises(InputError) as error:
        ZipTree(archive).read("a/1.txt")
    assert "damaged or truncated" in one_line(error)


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "..\\evil.png", "C:\\evil"])
def test_members_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as target:
        target.writestr(name, b"x")
    with pytest.raises(InputError) as error:
        ZipTree(tmp_path / "evil.zip")
    assert "points outside the archive" in one_line(error)


def test_members_that_unpack_to_too_much_are_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 100)
    with pytest.raises(InputError) as error:
        ZipTree(archive).read("a/1.txt")
    assert "700 bytes unpacked, more than 100" in one_line(error)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    target = io.BytesIO()
    image.save(target, form)
    return target.getvalue()


def test_images_of_any_mode_become_rgb() -> None:
    for mode in ("L", "P", "RGBA", "I;16", "1", "RGB"):
        assert decode_image(encoded(Image.new(mode, (5, 3))), "x.png").shape == (3, 5, 3)


def test_labels_of_8_and_16_bits() -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(decode_label(encoded(Image.fromarray(values)), "x.png"), values)
    wide = values.astype(np.uint16) * 1000
    np.testing.assert_array_equal(decode_label(encoded(Image.fromarray(wide)), "x.png"), wide)
    with pytest.raises(InputError, match="this is a RGB picture"):
        decode_label(encoded(Image.new("RGB", (4, 3))), "x.png")


def test_broken_images_name_the_file() -> None:
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)))
    for broken in (b"", b"<html>", data[:500]):
        with pytest.raises(InputError) as error:
            open_image(broken, "folder/x.png")
        assert one_line(error).startswith("folder/x.png: not a readable image")
    assert open_image(data[:500], "x.png", header_only=True).size == (50, 50)


def test_resizing_keeps_label_values() -> None:
    label = np.array([[1000, 2], [3, 40000]], np.uint16)
    assert resize_label(label, (4, 4)).tolist() == [[1000, 1000, 2, 2]] * 2 + [[3, 3, 40000, 40000]] * 2
    image = np.zeros((2, 2, 3), np.uint8)
    assert resize_image(image, (6, 4)).shape == (4, 6, 3)
    assert resize_image(image, (2, 2)) is image


def test_a_flipped_bit_in_the_pixels_is_noticed() -> None:
    values = np.random.default_rng(0).integers(0, 4, (10, 15), np.uint8)
    data = encoded(Image.fromarray(values))
    start = data.index(b"IDAT") + 4
    for position in range(8 * start, 8 * (start + int.from_bytes(data[start - 8 : start - 4], "big"))):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(InputError, match=r"x\.png: not a readable image"):
            decode_label(bytes(damaged), "x.png")


def test_formats_that_are_none_of_pictures_are_refused() -> None:
    # Pillow would start Ghostscript for this one, whatever the file is called.
    for form in ("EPS", "ICO", "PCX"):
        with pytest.raises(InputError, match=r"x\.png: not a readable image \(unknown format\)"):
            open_image(encoded(Image.new("RGB", (16, 16)), form), "x.png", header_only=True)
    for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "AVIF", "JPEG2000"):
        assert decode_image(encoded(Image.new("RGB", (16, 16)), form), "x").shape == (16, 16, 3)


def test_modes_without_a_way_to_rgb_name_the_file() -> None:
    grey = bytearray(encoded(Image.new("LA", (4, 4)), "TIFF"))
    at = grey.index(bytes.fromhex("5201 0300 01000000 0200")) + 8
    grey[at] = 1  # The kind of the second channel: alpha already multiplied with.
    # Pillow 13 opens it, and then has no conversion; Pillow 12 does not open it.
    with pytest.raises(InputError, match=r"x\.tif: not a readable image \((conversion from La|unknown format)"):
        decode_image(bytes(grey), "x.tif")


def zip_of(path: Path, method: int = zipfile.ZIP_STORED) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as target:
        target.writestr("a.png", bytes(100))
    return bytearray(path.read_bytes())


def changed(path: Path, data: bytearray, central: int, value: bytes) -> Path:
    """Overwrite bytes of the central directory's only entry; fields of the local header lie 2 bytes before."""
    at = data.index(b"PK\1\2") + central
    data[at : at + len(value)] = value
    if central <= 10:
        data[central - 2 : central - 2 + len(value)] = value
    path.write_bytes(data)
    return path


def test_a_packing_that_is_not_known_is_not_called_encryption(tmp_path: Path) -> None:
    path = changed(tmp_path / "x.zip", zip_of(tmp_path / "x.zip"), 10, b"\x09\x00")  # Deflate64, as Windows packs
    with pytest.raises(InputError, match=r"x\.zip.*compression method") as error:
        ZipTree(path).read("a.png")
    assert "encrypted" not in one_line(error)


def read_all(path: Path) -> list[bytes]:
    tree = ZipTree(path)
    return [tree.read(name) for name in tree.names()]


@pytest.mark.parametrize(
    ("central", "value"),
    [(28, b"\0\0"), (8, b"\0\x08"), (6, b"\xff\xff"), (42, b"\xff\xff\xff\x7f")],
    ids=["no-name", "name-not-utf8", "version", "offset"],
)
def test_broken_entries_of_an_archive(tmp_path: Path, central: int, value: bytes) -> None:
    data = zip_of(tmp_path / "x.zip")
    if value == b"\0\x08":
        data = bytearray(data.replace(b"a.png", b"\xff.png"))
    if central == 28:
        # The entry's length stays: what was its name becomes its comment.
        at = data.index(b"PK\1\2")
        data[at + 32 : at + 34] = b"\x05\0"
    path = changed(tmp_path / "x.zip", data, central, value)
    with pytest.raises(InputError, match=r"x\.zip: damaged or truncated zip archive"):
        read_all(path)
