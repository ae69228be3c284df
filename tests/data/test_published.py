"""Published layouts: small trees with real files, as folders and as archives, and what goes wrong with them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from adaptseg.config import DomainConfig
from adaptseg.data.cityscapes import BY_NAME
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import IGNORE_INDEX, label_space
from adaptseg.data.layouts.published import PUBLISHED
from adaptseg.data.layouts.registry import LAYOUTS, open_layout
from adaptseg.errors import InputError
from tests.data.published_trees import CITYSCAPES_IDS, TREES, build_tree, make_image, make_names, samples

CAMVID = Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid"
LABELLED = [(layout, split) for layout, tree in TREES.items() for split in tree.splits if split not in tree.unlabelled]
SIZE = (96, 64)


def domain(layout: str, root: Path, space: str = "cityscapes19", **changes: Any) -> Domain:
    options: dict[str, Any] = {"labelled": True, **changes}
    return Domain(DomainConfig(layout=layout, root=str(root), **options), label_space(space))


def message(layout: str, root: Path, **changes: Any) -> str:
    """Open the domain and read its first sample; return the error, which must be one line."""
    with pytest.raises(InputError) as error:
        domain(layout, root, **changes)[0]
    assert "\n" not in str(error.value)
    return str(error.value)


def expected_label(layout: str, n: int, space: str = "cityscapes19") -> npt.NDArray[np.uint8]:
    train_ids = {name: index for index, name in enumerate(label_space(space).classes)}
    names = make_names(TREES[layout], SIZE, n)
    flat = [train_ids.get(name, IGNORE_INDEX) for name in names.ravel().tolist()]
    return np.array(flat, np.uint8).reshape(names.shape)


def test_every_published_layout_is_tried() -> None:
    assert set(PUBLISHED) == set(TREES) == set(LAYOUTS) - {"streets", "folder"}


@pytest.mark.parametrize(("layout", "split"), LABELLED)
def test_images_and_labels_are_read(tmp_path: Path, layout: str, split: str) -> None:
    tree = TREES[layout]
    build_tree(layout, tmp_path, SIZE)
    data = domain(layout, tmp_path, split=[split] if split else None)
    numbers = [n for its_split, n in samples(tree, 2) if its_split == split]
    assert len(data) == len(numbers) == len(set(data.layout.names))
    for index, n in enumerate(numbers):
        sample = data[index]
        assert sample.label is not None
        assert sample.image.dtype == sample.label.dtype == np.dtype(np.uint8)
        np.testing.assert_array_equal(sample.label, expected_label(layout, n))
        difference = np.abs(sample.image.astype(int) - make_image(SIZE, n))
        assert difference.max() == 0 if tree.image.endswith("png") else difference.mean() < 6


@pytest.mark.parametrize("layout", list(TREES))
def test_images_without_labels_are_read(tmp_path: Path, layout: str) -> None:
    build_tree(layout, tmp_path)
    splits = [split for split in TREES[layout].splits if split]
    data = domain(layout, tmp_path, split=splits or None, labelled=False)
    assert len(data) == 2 * max(len(splits), 1)
    assert len(set(data.layout.names)) == len(data)
    assert data[0].label is None


@pytest.mark.parametrize("layout", [layout for layout, tree in TREES.items() if tree.archives])
def test_archives_equal_folders(tmp_path: Path, layout: str) -> None:
    build_tree(layout, tmp_path / "folders")
    build_tree(layout, tmp_path / "archives", zipped=True)
    assert not any(path.is_dir() for path in (tmp_path / "archives").iterdir())
    splits = [split for split in TREES[layout].splits if split not in ("", *TREES[layout].unlabelled)]
    folders, archives = (domain(layout, tmp_path / name, split=splits) for name in ("folders", "archives"))
    assert folders.layout.names == archives.layout.names
    for index in range(len(folders)):
        one, other = folders[index], archives[index]
        np.testing.assert_array_equal(one.image, other.image)
        assert one.label is not None
        assert other.label is not None
        np.testing.assert_array_equal(one.label, other.label)
    assert ".zip" in archives.layout.where(0)


def test_a_city_inside_the_archive_of_all_cities(tmp_path: Path) -> None:
    import shutil

    build_tree("cross_city", tmp_path / "NTHU_Datasets" / "Rome")
    shutil.make_archive(str(tmp_path / "NTHU"), "zip", tmp_path, "NTHU_Datasets")
    data = domain("cross_city", tmp_path / "NTHU.zip" / "NTHU_Datasets" / "Rome", "crosscity13", split=["test"])
    np.testing.assert_array_equal(data[0].label, expected_label("cross_city", 2, "crosscity13"))


def test_other_forms_of_a_data_set(tmp_path: Path) -> None:
    old, new = tmp_path / "seg", tmp_path / "new"
    build_tree("bdd100k", new)
    for split in ("train", "val"):
        (old / "images").mkdir(parents=True, exist_ok=True)
        (new / "images" / "10k" / split).rename(old / "images" / split)
        (old / "labels" / split).mkdir(parents=True)
        for label in sorted((new / "labels" / "sem_seg" / "masks" / split).iterdir()):
            label.rename(old / "labels" / split / f"{label.stem}_train_id.png")
    np.testing.assert_array_equal(domain("bdd100k", tmp_path)[1].label, expected_label("bdd100k", 1))

    vistas = build_tree("mapillary", tmp_path / "vistas2")
    (vistas / "training" / "v1.2").mkdir()
    (vistas / "training" / "labels").rename(vistas / "training" / "v1.2" / "labels")
    np.testing.assert_array_equal(domain("mapillary", vistas)[1].label, expected_label("mapillary", 1))

    camvid, segnet = build_tree("camvid", tmp_path / "camvid"), tmp_path / "segnet"
    segnet.mkdir()
    for split in ("train", "val", "test"):
        (camvid / "images" / split).rename(segnet / split)
        (camvid / "labels" / split).rename(segnet / f"{split}annot")
    data = domain("camvid", segnet, "camvid11", split=["train", "val"])
    assert len(data) == 4
    np.testing.assert_array_equal(data[3].label, expected_label("camvid", 3, "camvid11"))


def test_archives_unpacked_to_folders_of_their_names(tmp_path: Path) -> None:
    build_tree("cityscapes", tmp_path)
    for archive, top in (("leftImg8bit_trainvaltest", "leftImg8bit"), ("gtFine_trainvaltest", "gtFine")):
        (tmp_path / archive).mkdir()
        (tmp_path / top).rename(tmp_path / archive / top)
    np.testing.assert_array_equal(domain("cityscapes", tmp_path)[0].label, expected_label("cityscapes", 0))


def test_foggy_cityscapes_takes_one_density(tmp_path: Path) -> None:
    build_tree("foggy_cityscapes", tmp_path)
    for path in (tmp_path / "leftImg8bit_foggy").rglob("*.png"):
        Image.open(path).save(str(path).replace("beta_0.02", "beta_0.005"))
    assert len(domain("foggy_cityscapes", tmp_path)) == 2
    thin = domain("foggy_cityscapes", tmp_path, include=["*_beta_0.005"])
    assert thin.layout.names[0] == "trainburg/trainburg_000000_000019_beta_0.005"
    assert "matches include ['*0.01']" in message("foggy_cityscapes", tmp_path, include=["*0.01"])


def test_acdc_takes_one_condition_and_dark_zurich_the_night(tmp_path: Path) -> None:
    build_tree("acdc", tmp_path / "acdc")
    for kind in ("rgb_anon", "gt"):
        fog = tmp_path / "acdc" / kind / "fog" / "train" / "GP01"
        fog.mkdir(parents=True)
        for path in (tmp_path / "acdc" / kind / "night" / "train" / "GOPR0351").iterdir():
            (fog / path.name.replace("GOPR0351", "GP01")).write_bytes(path.read_bytes())
    assert len(domain("acdc", tmp_path / "acdc")) == 4
    assert domain("acdc", tmp_path / "acdc", include=["fog/*"]).layout.names[0] == "fog/GP01/GP01_frame_000000"

    build_tree("dark_zurich", tmp_path / "dark")
    day = tmp_path / "dark" / "rgb_anon" / "train" / "day" / "GP02"
    day.mkdir(parents=True)
    Image.new("RGB", SIZE).save(day / "GP02_frame_000001_rgb_anon.png")
    assert len(domain("dark_zurich", tmp_path / "dark", labelled=False)) == 2
    assert len(domain("dark_zurich", tmp_path / "dark", labelled=False, include=["*"])) == 3


def first_label(root: Path, pattern: str = "labels/*.png") -> Path:
    return min(root.glob(pattern))


def test_gta5_labels_that_are_colour_coded(tmp_path: Path) -> None:
    build_tree("gta5", tmp_path)
    label = first_label(tmp_path)
    Image.open(label).convert("RGB").save(label)
    text = message("gta5", tmp_path)
    assert text.startswith(f"{label}: colour-coded RGB picture")
    assert "give the published label files" in text


def test_gta5_labels_whose_palette_was_numbered_anew(tmp_path: Path) -> None:
    build_tree("gta5", tmp_path)
    label = first_label(tmp_path)
    colors = np.array([[70, 130, 180], [128, 64, 128], [0, 0, 142]], np.uint8)  # sky, road, car
    coded = Image.fromarray(np.repeat(np.repeat(colors[None], 64, 0), 32, 1))
    coded.quantize(3).save(label)
    text = message("gta5", tmp_path)
    assert "a renumbered colour-coded label; give the published files" in text


@pytest.mark.parametrize("layout", ["gta5", "cityscapes"])
def test_train_ids_in_place_of_label_ids(tmp_path: Path, layout: str) -> None:
    build_tree(layout, tmp_path)
    label = first_label(tmp_path, TREES[layout].label.split("/")[0] + "/**/*.png")
    for path in label.parent.glob("*.png"):
        Image.fromarray(expected_label(layout, 0)).save(path)
    text = message(layout, tmp_path, split=None if layout == "gta5" else [label.parent.name.removesuffix("burg")])
    assert "label value 255 is outside the map" in text
    assert "these look like train ids" in text


def test_a_value_outside_the_map_can_be_named(tmp_path: Path) -> None:
    build_tree("gta5", tmp_path)
    values = np.full((SIZE[1], SIZE[0]), 76, np.uint8)
    Image.fromarray(values).save(first_label(tmp_path))
    text = message("gta5", tmp_path)
    assert "label value 76 is outside the map (known: 0-34)" in text
    assert "label_map, for example 76: void" in text
    assert domain("gta5", tmp_path, label_map={76: "road"})[0].label is not None


def test_license_plates_of_gta5_are_ignored(tmp_path: Path) -> None:
    build_tree("gta5", tmp_path)
    Image.fromarray(np.full((SIZE[1], SIZE[0]), 34, np.uint8)).save(first_label(tmp_path))
    label = domain("gta5", tmp_path)[0].label
    assert label is not None
    assert (label == IGNORE_INDEX).all()


def test_synthia_reads_the_first_of_three_16_bit_channels(tmp_path: Path) -> None:
    build_tree("synthia", tmp_path)
    path = first_label(tmp_path, "GT/LABELS/*.png")
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert stored.dtype == np.uint16
    raw = domain("synthia", tmp_path, "cityscapes16").layout.label(0)
    np.testing.assert_array_equal(raw, stored[:, :, 2])
    assert raw.max() == 21


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.zeros((64, 96, 3), np.uint8), "must have 16 bits per channel, these have 8"),
        (np.zeros((64, 96), np.uint8), "must have 16 bits per channel, these have 8"),
        (np.zeros((64, 96), np.uint16), "must have 3 channels, these have 1"),
        (np.full((64, 96, 3), 77, np.uint16), "label value 77 is outside the map (known: 0-22)"),
    ],
)
def test_synthia_labels_of_the_wrong_kind(tmp_path: Path, pixels: npt.NDArray[Any], expected: str) -> None:
    build_tree("synthia", tmp_path)
    path = first_label(tmp_path, "GT/LABELS/*.png")
    assert cv2.imwrite(str(path), pixels)
    text = message("synthia", tmp_path)
    assert text.startswith(f"{path}: ")
    assert expected in text
    assert "give" in text


def test_synthia_labels_that_are_broken(tmp_path: Path) -> None:
    build_tree("synthia", tmp_path)
    path = first_label(tmp_path, "GT/LABELS/*.png")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "truncated PNG" in message("synthia", tmp_path)
    path.write_bytes(b"not a picture")
    assert "not a readable image" in message("synthia", tmp_path)


def test_a_cityscapes_root_that_is_a_level_off(tmp_path: Path) -> None:
    root = build_tree("cityscapes", tmp_path / "data" / "cityscapes")
    for deep in ("leftImg8bit", "leftImg8bit/train", "leftImg8bit/train/trainburg", "gtFine"):
        text = message("cityscapes", root / deep)
        assert text == f"{root / deep}: a folder inside the data set, too deep; give root {root}"
    for high in (root.parent, tmp_path):
        text = message("cityscapes", high)
        assert text.startswith(f"{high}: no leftImg8bit/ and no leftImg8bit_trainvaltest.zip in it")
        assert text.endswith(f"give root {root}")


def test_a_synthia_archive_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "SYNTHIA_RAND_CITYSCAPES.rar").touch()
    text = message("synthia", tmp_path)
    assert text.endswith("but SYNTHIA_RAND_CITYSCAPES.rar, which cannot be read in place; unpack it")


def test_missing_folders_and_archives(tmp_path: Path) -> None:
    assert message("gta5", tmp_path / "none") == (
        f"{tmp_path / 'none'}: no such folder; check the root of the data (or --data)"
    )
    (tmp_path / "other").mkdir()
    text = message("gta5", tmp_path)
    assert "no images/ and no [0-9][0-9]_images.zip in it (it has other)" in text
    (tmp_path / "images").mkdir()
    assert "no images images/{key}.png" in message("gta5", tmp_path, labelled=False)
    build_tree("cityscapes", tmp_path / "city", zipped=True)
    (tmp_path / "city" / "gtFine_trainvaltest.zip").unlink()
    assert "no gtFine/ and no gtFine_trainvaltest.zip" in message("cityscapes", tmp_path / "city")
    with pytest.raises(InputError, match="root of layout gta5 is missing"):
        open_layout(DomainConfig(layout="gta5"))


def test_a_truncated_archive(tmp_path: Path) -> None:
    build_tree("gta5", tmp_path, zipped=True)
    path = tmp_path / "02_labels.zip"
    path.write_bytes(path.read_bytes()[:-30])
    text = message("gta5", tmp_path)
    assert text.startswith(f"{path}: damaged or truncated zip archive")
    assert text.endswith("download it again")


def test_images_without_labels_and_splits_without_labels(tmp_path: Path) -> None:
    build_tree("gta5", tmp_path / "gta5", images=3)
    (tmp_path / "gta5" / "labels" / "00001.png").unlink()
    text = message("gta5", tmp_path / "gta5")
    assert text.startswith(f"{tmp_path / 'gta5' / 'images' / '00001.png'}: no label")
    assert text.endswith("add it, or remove the image")
    (tmp_path / "gta5" / "labels" / "00002.png").unlink()
    assert "(2 of 3 images have none)" in message("gta5", tmp_path / "gta5")
    for layout, split in (("cityscapes", "test"), ("cross_city", "train"), ("mapillary", "test")):
        build_tree(layout, tmp_path / layout)
        text = message(layout, tmp_path / layout, split=[split])
        assert f"labels of split {split} are not published" in text


def test_splits_that_are_not_there(tmp_path: Path) -> None:
    build_tree("cityscapes", tmp_path / "city")
    text = message("cityscapes", tmp_path / "city", split=["validation"])
    assert text.endswith("for split validation; it has splits test, train, val")
    # One that is there does not hide one that is not.
    text = message("cityscapes", tmp_path / "city", split=["train", "validation"])
    assert "for split validation; it has" in text
    build_tree("gta5", tmp_path / "gta5")
    assert "it has no splits; give none, or [all]" in message("gta5", tmp_path / "gta5", split=["train"])
    assert len(domain("gta5", tmp_path / "gta5", split=["all"])) == 2


def test_names_are_readable(tmp_path: Path) -> None:
    names = {layout: domain(layout, build_tree(layout, tmp_path / layout), labelled=False) for layout in TREES}
    assert names["gta5"].layout.names == ["00000", "00001"]
    assert names["cityscapes"].layout.names[0] == "trainburg/trainburg_000000_000019"
    assert names["acdc"].layout.names[0] == "night/GOPR0351/GOPR0351_frame_000000"
    assert names["bdd100k"].layout.names[0] == "00000000-00000000"


def test_label_ids_of_the_trees_are_those_of_cityscapes() -> None:
    assert all(BY_NAME[name].id == value for name, value in CITYSCAPES_IDS.items() if name != "void")


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not there (../shared/data/camvid)")
def test_real_camvid() -> None:
    counts = {}
    for split in ("train", "val", "test"):
        data = domain("camvid", CAMVID, "camvid11", split=[split])
        counts[split] = len(data)
        label = data[0].label
        assert data[0].image.shape == (360, 480, 3)
        assert label is not None
        assert set(np.unique(label).tolist()) <= {*range(11), IGNORE_INDEX}
        # Sky is above road.
        sky, road = (np.nonzero(label == index)[0].mean() for index in (0, 3))
        assert sky < road
    assert counts == {"train": 367, "val": 101, "test": 233}
