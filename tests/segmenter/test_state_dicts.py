"""Files of weights: formats, damage, and pickles that would run code."""

from __future__ import annotations

import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from adaptseg.errors import InputError
from adaptseg.segmenter.state_dicts import load_state, read_state_dict, without_prefixes

STATE = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.ones(2)}


def assert_read(path: Path) -> None:
    state = read_state_dict(path)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pth(tmp_path: Path, zipped: bool) -> None:
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_read(tmp_path / "w.pth")


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert_read(tmp_path / "w.safetensors")


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_nested(tmp_path: Path, key: str) -> None:
    torch.save({key: STATE, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    assert_read(tmp_path / "w.pth")


def python2_file() -> bytes:
    """A file as PyTorch 0.3 on Python 2 wrote it, of weights on a GPU: OrderedDict, byte strings, old rebuild."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def tensor(key: str, size: tuple[int, ...], stride: tuple[int, ...], count: int) -> bytes:
        storage = b"(" + text("storage") + b"ctorch.cuda\nFloatStorage\n" + text(key) + text("cuda:0")
        storage += number(count) + b"Nt" + b"Q"
        shape = b"(" + b"".join(map(number, size)) + b"t" + b"(" + b"".join(map(number, stride)) + b"t"
        return b"ctorch._utils\n_rebuild_tensor\n(" + storage + number(0) + shape + b"tR"

    weight = b"(" + text("layer.weight") + tensor("1", (2, 3), (3, 1), 6) + b"l"
    bias = b"(" + text("layer.bias") + tensor("2", (2,), (1,), 2) + b"l"
    # Protocol 2 writes lists by EMPTY_LIST and APPEND.
    items = b"](" + b"](" + weight[1:-1] + b"e" + b"](" + bias[1:-1] + b"e" + b"e"
    ordered = b"\x80\x02ccollections\nOrderedDict\n(" + items + b"tR."
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    storages = b"".join(struct.pack("<q", t.numel()) + t.numpy().tobytes() for t in STATE.values())
    return b"".join(parts) + ordered + pickle.dumps(["1", "2"], 2) + storages


def test_file_of_pytorch_03_on_python_2(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(python2_file())
    assert_read(tmp_path / "w.pth")


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_code_is_not_run(tmp_path: Path, kind: str) -> None:
    trap, file = tmp_path / "trap", tmp_path / "w.pth"
    content = {"layer.weight": torch.ones(2), "other": Malicious(trap)}
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Malicious(trap)))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    assert not trap.exists()
    with pytest.raises(InputError, match=r"more than tensors and wants to run code \((_?io)\.open\)") as caught:
        read_state_dict(file)
    assert not trap.exists()
    assert "\n" not in str(caught.value)
    torch.load(file, weights_only=False) if kind != "pickle" else pickle.loads(file.read_bytes())
    assert trap.exists(), "the pickle was harmless, so the test shows nothing"


def test_old_tar_format(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "w.pth", "w") as tar:
        for name in ("storages", "tensors", "pickle"):
            (tmp_path / name).write_bytes(b"")
            tar.add(tmp_path / name, name)
    with pytest.raises(InputError, match="old tar format"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncated_pth(tmp_path: Path, zipped: bool) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "w.pth").read_bytes()
    for length in (100, len(content) // 2, len(content) - 10):
        (tmp_path / "w.pth").write_bytes(content[:length])
        with pytest.raises(InputError, match="truncated"):
            read_state_dict(tmp_path / "w.pth")


def test_truncated_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-4])
    with pytest.raises(InputError, match="truncated"):
        read_state_dict(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html></html>", "a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "git lfs"),
        (b"not weights at all", "no weights"),
    ],
)
def test_no_weights(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [torch.ones(2), {"epoch": 3}, {}, [STATE]])
def test_no_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match="no state dict"):
        read_state_dict(tmp_path / "w.pth")


def test_packed_pth_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(30_000_000)}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as stored, zipfile.ZipFile(tmp_path / "packed.pth", "w") as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "packed.pth").stat().st_size < 200_000
    with pytest.raises(InputError, match=r"packed\.pth: .* unpacked; "):
        read_state_dict(tmp_path / "packed.pth")


@pytest.mark.parametrize(
    "tensor", [torch.eye(2).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.complex64)]
)
def test_tensors_that_are_no_weights(tmp_path: Path, tensor: Tensor) -> None:
    torch.save(STATE | {"odd": tensor}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: holds no state dict, for 'odd' is no tensor"):
        read_state_dict(tmp_path / "w.pth")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_state_dict(tmp_path / "w.pth")


def test_prefixes() -> None:
    state: dict[str, Tensor] = dict.fromkeys(("module.Scale.a", "Scale.module.b", "c.module.d"), torch.ones(1))
    assert list(without_prefixes(state)) == ["a", "b", "c.module.d"]


def test_mismatch_lists_the_keys() -> None:
    network = nn.Linear(2, 3)
    with pytest.raises(
        InputError, match=r"w\.pth: .*1 missing: bias; 1 unexpected: other; .*weight 3x1 instead of 3x2"
    ):
        load_state(network, {"weight": torch.ones(3, 1), "other": torch.ones(1)}, "w.pth")
