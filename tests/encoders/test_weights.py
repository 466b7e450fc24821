"""Reading weights: what is right is read back, what is not is named, and nothing in a file is ever run."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from auscult.encoders.weights import check_file, load_strict, read_state
from auscult.errors import AuscultError
from support.projects import stage_environment

STATE = {"a": torch.arange(300.0), "b.c": torch.ones(2, 3, dtype=torch.float16)}


class Creates:
    """Unpickling this makes a file: what a malicious checkpoint would do, harmless."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def refused(path: Path) -> str:
    """The message of `read_state`, which must name the file and what to do."""
    with pytest.raises(AuscultError) as caught:
        read_state(path)
    assert caught.value.where == str(path)
    assert caught.value.fix
    return caught.value.what


def same(found: dict[str, Any]) -> bool:
    return found.keys() == STATE.keys() and all(
        torch.equal(found[key], STATE[key]) and found[key].dtype == STATE[key].dtype for key in STATE
    )


def test_every_kind_of_file_is_read_back(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    torch.save(STATE, tmp_path / "x.pt")
    torch.save(
        STATE, tmp_path / "old.bin", _use_new_zipfile_serialization=False
    )  # before torch 1.6: no zip, no mapping
    torch.save({"cfg": {"layers": 12, "name": "x"}, "model": STATE}, tmp_path / "nested.pt")
    for name in ("x.safetensors", "x.pt", "old.bin"):
        assert same(read_state(tmp_path / name)), name
    nested = read_state(tmp_path / "nested.pt")
    assert nested["cfg"] == {"layers": 12, "name": "x"}
    assert same(nested["model"])


@pytest.mark.parametrize("length", [0x80, 0x280, 0x480, 0x4B50])
def test_a_header_whose_length_looks_like_another_format(tmp_path: Path, length: int) -> None:
    """Its first bytes are those of a pickle (80, 80 02, 80 04) or of a zip archive (50 4B)."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(length)
    content = length.to_bytes(8, "little") + header.encode() + bytes(4)
    (tmp_path / "x.safetensors").write_bytes(content)
    assert torch.equal(read_state(tmp_path / "x.safetensors")["a"], torch.zeros(1))
    (tmp_path / "x.pt").write_bytes(content)
    assert "safetensors file under another name" in refused(tmp_path / "x.pt")


def test_changing_what_was_read_leaves_the_file_alone(tmp_path: Path) -> None:
    """Tensors of a torch file are mapped from the disk."""
    torch.save(STATE, tmp_path / "x.pt")
    before = (tmp_path / "x.pt").read_bytes()
    read_state(tmp_path / "x.pt")["a"].zero_()
    assert (tmp_path / "x.pt").read_bytes() == before


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("how", ["zip", "before torch 1.6", "pickle", "named safetensors"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, how: str, protocol: int) -> None:
    path, made = tmp_path / ("x.safetensors" if how == "named safetensors" else "x.pt"), tmp_path / "made"
    content = {"weight": torch.ones(3), "extra": Creates(made)}
    if how in ("zip", "before torch 1.6"):
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=how == "zip")
    else:
        path.write_bytes(pickle.dumps(Creates(made), protocol))
    what = refused(path)
    assert not made.exists()
    if how == "zip" or (how == "before torch 1.6" and protocol):  # in protocol 0 it does not look like torch's
        assert "could run code" in what
    pickle.loads(pickle.dumps(Creates(made), protocol))  # the same content does its work where it is trusted
    assert made.exists()


@pytest.mark.parametrize("value", [argparse.Namespace(lr=1), nn.Linear(2, 2)], ids=["Namespace", "module"])
def test_what_is_no_tensor_is_named_and_the_way_out_is_told(tmp_path: Path, value: Any) -> None:
    torch.save({"state_dict": STATE, "args": value}, tmp_path / "x.ckpt")
    assert type(value).__name__ in refused(tmp_path / "x.ckpt")
    with pytest.raises(AuscultError) as caught:
        read_state(tmp_path / "x.ckpt")
    assert "safetensors" in caught.value.fix


def test_a_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:  # what torch.jit.save leaves
        for part in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"x/{part}", b"\x80\x02.")
    assert "TorchScript" in refused(tmp_path / "x.pt")


@pytest.mark.parametrize("keep", [1, 7, 9, 30, 0.5, -1])
@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "old.pt"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    if name == "x.safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=name == "x.pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    what = refused(path)
    assert "cut off" in what or "not a checkpoint" in what  # of one byte nobody can tell
    assert "cut off" in what or len(path.read_bytes()) == 1


def test_the_missing_bytes_are_counted_without_reading_the_file(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[:-5])
    with pytest.raises(AuscultError, match=f"{len(whole) - 5} of {len(whole)} bytes"):
        check_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.pt", b"", "empty"),
        ("x.safetensors", b"", "empty"),
        ("x.pt", b"\n <!DOCTYPE html><html>", "web page"),
        ("x.safetensors", b"\xef\xbb\xbf<html lang=en>", "web page"),
        ("x.pt", b'<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code></Error>', "web page"),
        ("x.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git-lfs pointer"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git-lfs pointer"),
        ("x.pt", b"Entry not found, sorry", "not a checkpoint"),
        ("x.safetensors", b"Entry not found, sorry", "not a safetensors file"),
        ("x.safetensors", (4).to_bytes(8, "little") + b"{}{}" + bytes(9), "its header is none"),
        ("x.safetensors", (2).to_bytes(8, "little") + b"[]" + bytes(9), "not a safetensors file"),
        ("x.safetensors", (8).to_bytes(8, "little") + b'{"a": 1}' + bytes(9), "its header is none"),
        ("x.safetensors", (2).to_bytes(8, "little") + b"{}" + bytes(9), "damaged"),
        ("config.json", b'{"layers": ', "JSON"),
    ],
)
def test_what_is_no_checkpoint_is_said_to_be_what_it_is(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refused(tmp_path / name)


def test_names_that_hide_the_format(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    os.rename(tmp_path / "x.safetensors", tmp_path / "x.pt")
    assert "safetensors file under another name" in refused(tmp_path / "x.pt")
    torch.save(STATE, tmp_path / "x.safetensors")
    assert "torch file under its name" in refused(tmp_path / "x.safetensors")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.pt", "weights")
    assert "zip archive" in refused(tmp_path / "x.zip")
    torch.save(torch.ones(3), tmp_path / "one.pt")
    assert "holds a Tensor" in refused(tmp_path / "one.pt")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "no such" in refused(tmp_path / "x.pt")
    assert "folder" in refused(tmp_path)


def test_a_good_config_passes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"layers": 12}))
    check_file(tmp_path / "config.json")


def test_looking_at_a_file_needs_no_torch(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pt")
    code = (
        "import sys, pathlib; from auscult.encoders.weights import check_file; check_file(pathlib.Path('x.pt')); "
        "print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=stage_environment(), capture_output=True, text=True
    )
    assert result.stdout == "False\n", result.stderr


# ------------------------------------------------------------------------------------------------------------- load_strict
def network() -> nn.Module:
    return nn.Sequential(*(nn.Linear(2, 2) for _ in range(8)))


def test_load_strict_copies_every_weight() -> None:
    source, target = network(), network()
    load_strict(target, source.state_dict(), "x.pt")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


def test_load_strict_names_five_of_each_fault_and_counts_them() -> None:
    module = network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state: dict[str, Any] = {key: torch.zeros_like(value) for key, value in before.items()}
    for i in range(6):
        del state[f"{i}.weight"]
        state[f"{i}.bias"] = torch.zeros(3)
        state[f"head.{i}"] = torch.zeros(1)
    state["7.bias"] = "no tensor"
    with pytest.raises(AuscultError) as caught:
        load_strict(module, state, "some/file.pt")
    text = str(caught.value)
    for words in ("6 missing", "6 unexpected", "7 of another shape", "0.weight (2, 2)", "head.4 (1,)", "some/file.pt"):
        assert words in text
    assert "0.bias is (3,), should be (2,)" in text
    assert "5.weight" not in text
    assert text.count("and 1 more") == 2
    assert text.count("and 2 more") == 1
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())  # nothing was copied


def test_load_strict_says_only_what_is_wrong() -> None:
    state = network().state_dict()
    del state["3.bias"]
    with pytest.raises(AuscultError, match="1 missing") as caught:
        load_strict(network(), state, "x")
    assert "unexpected" not in str(caught.value)
    assert "shape" not in str(caught.value)
