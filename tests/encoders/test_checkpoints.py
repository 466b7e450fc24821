"""checkpoints.yaml as shipped, and every state of a checkpoint with files made here."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from auscult.cli import main
from auscult.encoders import MODULES, encoder_kind
from auscult.encoders.checkpoints import Checkpoint, find, load_checkpoints, path_of, status
from auscult.encoders.weights import read_state
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.projects import ROOT, stage_environment

PAGE = "https://example.org/weights"


@pytest.fixture
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Contents of a small torch file."""
    path = tmp_path_factory.mktemp("weights") / "x.pt"
    torch.save({"a": torch.arange(1000.0)}, path)
    return path.read_bytes()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bytes) -> Path:
    """A project folder: `known` (one file, its digest known), `unknown` (one file) and `hub` (a folder)."""
    monkeypatch.delenv("AUSCULT_CHECKPOINTS", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    common = {"encoder": "beats", "title": "t", "source": PAGE, "licence": "MIT"}
    hub = [
        {"name": "config.json"},
        {"name": "preprocessor_config.json", "optional": True},
        {"name": "model.safetensors", "instead": ["pytorch_model.bin"]},
    ]
    content = {
        "known": {**common, "files": [{"name": "x.pt", "sha256": hashlib.sha256(weights).hexdigest()}]},
        "unknown": {**common, "revision": "abc", "files": [{"name": "x.ckpt", "instead": ["x.safetensors"]}]},
        "hub": {**common, "files": hub},
    }
    write(tmp_path, content)
    return tmp_path


def write(root: Path, content: dict[str, Any]) -> None:
    (root / "checkpoints.yaml").write_text(yaml.safe_dump({"checkpoints": content}))


def put(root: Path, name: str, file: str, content: bytes) -> Path:
    path = root / "checkpoints" / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------------------------------------------- the file as shipped
def test_the_shipped_file_is_valid_and_names_known_encoders() -> None:
    known = load_checkpoints(ROOT)
    assert {"beats_iter3", "wav2vec2_large_lv60", "hubert_base", "wavlm_large", "imagebind_huge"} <= known.keys()
    assert {entry.encoder for entry in known.values()} <= MODULES.keys()
    for name, entry in known.items():
        keys = {key.partition(".")[0] for key in entry.unchecked}
        assert keys <= Checkpoint.model_fields.keys(), name
        assert "." not in name


@pytest.mark.parametrize("name", ["hubert_base", "wavlm_base"])
def test_sizes_that_differ_are_sizes_of_the_encoder(name: str) -> None:
    entry = find(name, ROOT)
    published = importlib.import_module(f"auscult.encoders.{MODULES[entry.encoder]}").PUBLISHED[entry.encoder]
    assert entry.size.keys() <= published.keys()
    assert entry.size["width"] != published["width"]


def test_the_one_known_digest_is_marked_as_reported() -> None:
    entry = find("beats_iter3", ROOT)
    assert entry.files[0].sha256.startswith("8d1b2340")
    assert any("not by Microsoft" in remark for remark in entry.remarks)


# ----------------------------------------------------------------------------------------------------------------- states
def test_missing(root: Path) -> None:
    found = status("known", root)
    assert (found.state, found.sha256, found.usable) == ("missing", {}, False)
    assert found.reason == f"checkpoint `known` is missing: put x.pt into checkpoints/known (from {PAGE})"
    with pytest.raises(AuscultError) as caught:
        path_of("known", root)
    assert caught.value.where == str(root / "checkpoints" / "known" / "x.pt")
    assert caught.value.fix == f"put x.pt into {root / 'checkpoints' / 'known'} (from {PAGE})"


def test_present(root: Path, weights: bytes) -> None:
    path = put(root, "known", "x.pt", weights)
    found = status("known", root)
    assert (found.state, found.reason, found.usable) == ("present", "", True)
    assert found.sha256 == {"x.pt": hashlib.sha256(weights).hexdigest()}
    assert path_of("known", root) == found.path == path


def test_unverified(root: Path, weights: bytes) -> None:
    path = put(root, "unknown", "x.ckpt", weights)
    found = status("unknown", root)
    assert (found.state, found.usable) == ("unverified", True)
    assert "no digest is known of x.ckpt" in found.reason
    assert path_of("unknown", root) == path


def test_a_converted_file_goes_before_the_one_it_was_made_from(root: Path, weights: bytes) -> None:
    put(root, "unknown", "x.ckpt", weights)
    save_file({"a": torch.ones(3)}, root / "checkpoints" / "unknown" / "x.safetensors")
    assert path_of("unknown", root).name == "x.safetensors"
    assert status("unknown", root).sha256.keys() == {"x.safetensors"}


def test_the_same_weights_under_another_name_are_not_compared(root: Path, weights: bytes) -> None:
    entry = yaml.safe_load((root / "checkpoints.yaml").read_text())["checkpoints"]["known"]
    entry["files"][0]["instead"] = ["x.bin"]
    write(root, {"known": entry})
    put(root, "known", "x.bin", weights)
    assert status("known", root).state == "unverified"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"Entry not found", "not a checkpoint"),
    ],
)
@pytest.mark.parametrize(("name", "file"), [("known", "x.pt"), ("unknown", "x.ckpt")])
def test_wrong_at_a_glance(root: Path, name: str, file: str, content: bytes, words: str) -> None:
    put(root, name, file, content)
    found = status(name, root)
    assert (found.state, found.usable) == ("wrong", False)
    assert words in found.reason
    assert str(root) not in found.reason
    with pytest.raises(AuscultError, match=words) as caught:
        path_of(name, root)
    assert PAGE in caught.value.fix


def test_truncated_is_wrong(root: Path, weights: bytes) -> None:
    put(root, "unknown", "x.ckpt", weights[:-100])
    assert "cut off" in status("unknown", root).reason


def test_another_file_than_expected_is_wrong(root: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "other.pt")
    other = (tmp_path / "other.pt").read_bytes()
    put(root, "known", "x.pt", other)
    found = status("known", root)
    assert found.state == "wrong"
    assert "another file than expected" in found.reason
    assert hashlib.sha256(other).hexdigest() in found.reason


def test_a_hub_folder(root: Path) -> None:
    folder = put(root, "hub", "config.json", b'{"model_type": "x"}').parent
    found = status("hub", root)
    assert found.state == "missing"
    assert "put model.safetensors (or pytorch_model.bin) into" in found.reason  # config.json is there
    torch.save({"a": torch.ones(3)}, folder / "pytorch_model.bin")
    found = status("hub", root)
    assert found.state == "unverified"
    assert found.sha256.keys() == {"config.json", "pytorch_model.bin"}
    assert path_of("hub", root) == folder
    put(root, "hub", "preprocessor_config.json", b"<html>")
    assert "preprocessor_config.json: not a checkpoint: a web page" in status("hub", root).reason
    with pytest.raises(AuscultError) as caught:
        path_of("hub", root)
    assert "put config.json and model.safetensors (or pytorch_model.bin) into" in caught.value.fix


# ------------------------------------------------------------------------------------------------------------------ where
def test_another_folder_for_several_checkouts(root: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "known", "x.pt", weights)
    os.rename(root / "checkpoints", root / "shared")
    assert status("known", root).state == "missing"
    for place in (str(root / "shared"), "shared"):
        monkeypatch.setenv("AUSCULT_CHECKPOINTS", place)
        assert path_of("known", root) == root / "shared" / "known" / "x.pt"


def test_files_lie_in_the_users_checkout(root: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queued experiment runs in a copy that has checkpoints.yaml and no large file."""
    put(root, "known", "x.pt", weights)
    (root / "copy").mkdir()
    os.rename(root / "checkpoints.yaml", root / "copy" / "checkpoints.yaml")
    monkeypatch.chdir(root / "copy")
    assert status("known").state == "missing"
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert path_of("known") == root / "checkpoints" / "known" / "x.pt"
    assert "checkpoints.json" in os.listdir(root / ".cache")


# ------------------------------------------------------------------------------------------------------------- the digests
class Hashed:
    """Counts the files that are read whole."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        real = hashlib.file_digest

        def counting(stream: Any, algorithm: str) -> Any:
            self.names.append(Path(stream.name).name)
            return real(stream, algorithm)

        monkeypatch.setattr(hashlib, "file_digest", counting)


def test_a_file_is_read_once_until_it_changes(root: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = Hashed(monkeypatch)
    path = put(root, "known", "x.pt", weights)
    first = status("known", root)
    assert status("known", root) == first
    assert hashed.names == ["x.pt"]
    stat = path.stat()
    changed = weights.replace(torch.tensor([999.0]).numpy().tobytes(), torch.tensor([998.5]).numpy().tobytes())
    assert changed != weights
    path.write_bytes(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time of change: as `cp -p` leaves it
    assert status("known", root).state == "wrong"
    assert hashed.names == ["x.pt", "x.pt"]


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"x": 1}'])
def test_a_damaged_memory_of_digests_is_made_anew(root: Path, weights: bytes, content: str) -> None:
    path = put(root, "known", "x.pt", weights)
    cache = root / ".cache" / "checkpoints.json"
    cache.parent.mkdir()
    cache.write_text(content)
    assert status("known", root).state == "present"
    assert str(path.absolute()) in json.loads(cache.read_text())


def test_two_checkpoints_remember_each_other(root: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "known", "x.pt", weights)
    put(root, "unknown", "x.ckpt", weights)
    for name in ("known", "unknown"):
        status(name, root)
    hashed = Hashed(monkeypatch)
    for name in ("known", "unknown"):
        status(name, root)
    assert hashed.names == []


def test_digests_also_without_a_place_to_keep_them(root: Path, weights: bytes) -> None:
    put(root, "known", "x.pt", weights)
    (root / ".cache").write_text("a file where a folder should be")
    assert status("known", root).state == "present"


# ------------------------------------------------------------------------------------------------- mistakes in the file
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"license": "MIT"}, r"known\.license: unknown key"),
        ({"files": []}, "known.files"),
        ({"files": [{"name": "../x.pt"}]}, r"known\.files\.0\.name"),
        ({"files": [{"name": ".x"}]}, r"known\.files\.0\.name"),
        ({"files": [{"name": "x.pt", "sha256": "8d1b"}]}, r"known\.files\.0\.sha256"),
        ({"files": [{"name": "x.pt", "md5": "8d1b"}]}, r"known\.files\.0\.md5: unknown key"),
        ({"source": "http://example.org"}, r"known\.source"),
    ],
)
def test_mistakes_are_named(root: Path, change: dict[str, Any], words: str) -> None:
    entry = yaml.safe_load((root / "checkpoints.yaml").read_text())["checkpoints"]["known"]
    write(root, {"known": {**entry, **change}})
    with pytest.raises(AuscultError, match=words):
        load_checkpoints(root)


@pytest.mark.parametrize("name", ["../known", "a/b", "Known"])
def test_a_name_is_no_path(root: Path, name: str) -> None:
    entry = yaml.safe_load((root / "checkpoints.yaml").read_text())["checkpoints"]["known"]
    write(root, {name: entry})
    with pytest.raises(AuscultError, match=re.escape("checkpoints.yaml.checkpoints")):
        load_checkpoints(root)


def test_unknown_name_and_no_file(root: Path, tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match=re.escape("there is no checkpoint `knwon` (did you mean `known`?)")):
        status("knwon", root)
    with pytest.raises(AuscultError, match=re.escape("no checkpoints.yaml")):
        load_checkpoints(tmp_path / "nowhere")


# ----------------------------------------------------------------------------------------------------- docs/checkpoints.md
def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "checkpoints.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_documented_output_is_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AUSCULT_CHECKPOINTS", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "checkpoints.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    program, *arguments = blocks("bash")[0].split()
    assert program == "auscult"
    main(arguments)
    assert capsys.readouterr().out == blocks("text")[0]


def told() -> list[tuple[str, int, str]]:
    """Checkpoint, parameters and GMAC of the page's table of sizes."""
    text = (ROOT / "docs" / "checkpoints.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d.]+) \|", text, re.MULTILINE)
    return [(name, int(count.replace(",", "")), gmac) for name, count, gmac in rows]


@pytest.mark.parametrize(("name", "parameters", "gmac"), told())
def test_the_documented_sizes_are_those_of_the_networks(name: str, parameters: int, gmac: str) -> None:
    entry = find(name, ROOT)
    build = encoder_kind(entry.encoder).build
    # Its front-end alone is computed with numbers; the network only counted.
    small = entry.size if entry.encoder == "openl3" else {**entry.size, "layers": 1}
    front = build(EncoderSettings(name=entry.encoder, size=small))
    device = "cpu" if entry.encoder == "beats" else "meta"  # its attention asks the device for its precision
    with torch.device(device):
        network = build(EncoderSettings(name=entry.encoder, size=entry.size)).eval()
    assert sum(value.numel() for value in network.parameters()) == parameters
    # The counter does not see the products inside a CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        x = front.front_end(0.1 * torch.randn(1, 10 * front.sample_rate))
        network.tokens(x.to(device))
    assert f"{counter.get_total_flops() / 2e9:.1f}" == gmac


def test_every_size_of_the_page_is_found() -> None:
    assert len(told()) == 11


def test_the_documented_conversion_makes_a_refused_file_readable(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(3)}, "args": argparse.Namespace(lr=1)}, tmp_path / "training.ckpt")
    with pytest.raises(AuscultError, match="could run code"):
        read_state(tmp_path / "training.ckpt")
    subprocess.run([sys.executable, "-c", blocks("python")[0]], cwd=tmp_path, env=stage_environment(), check=True)
    assert torch.equal(read_state(tmp_path / "weights.safetensors")["a"], torch.ones(3))


def test_the_documented_entry_is_valid(tmp_path: Path) -> None:
    (tmp_path / "checkpoints.yaml").write_text("checkpoints:\n" + blocks("yaml")[0])
    assert find("my_beats", tmp_path).encoder in MODULES
