"""`auscult fit`: what it makes of its arguments, what it prints, how it exits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from auscult import cli
from auscult.detector import bundle
from auscult.methods import METHODS, load_method
from auscult.methods.about import NOT_OF_A_BUNDLE, keys
from support.trees import noise, write


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(12):
        write(tmp_path / "normal" / f"{number}.wav", noise(rng, 1.6, 300.0))
    (tmp_path / "normal" / "readme.txt").write_text("")
    return tmp_path / "normal"


def test_fit_says_what_it_made(normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pump.bundle"
    assert cli.main(["fit", str(normal), "-o", str(out), "--seconds", "1", "--rate", "0.2"]) == 0
    made = bundle.load(out)
    text = capsys.readouterr().out
    assert f"{out}: 12 recordings (0.3 min) -> 12 windows of 1 s at 16000 Hz\n" in text
    assert f"anomalous above {made.threshold:.6g}, which 0.2 of normal windows exceed (quantile)" in text
    assert "smallest p-value it can give: 0.077" in text
    assert "not used: 7 s at the ends" in text
    assert "passed over: 1 file(s)" in text
    assert cli.main(["fit", str(normal), "-o", str(out)]) == 2
    assert "there is a bundle already" in capsys.readouterr().err
    assert cli.main(["fit", str(normal), "-o", str(out), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["window"] == 25600


def test_settings_of_a_method(normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", str(normal), "-o", str(tmp_path / "b"), "--channel", "mean"]
    assert cli.main([*arguments, "--set", "pooling=[max]", "--backend", "knn_cosine", "--k", "2"]) == 0
    made = bundle.load(tmp_path / "b")
    assert (made.reference.shape, made.backend, made.k, made.channel) == ((12, 128), "knn_cosine", 2, "mean")
    capsys.readouterr()
    for more, words in (
        (["--set", "poling=[max]"], "spectral_knn.poling: unknown key (did you mean `pooling`?)"),
        (["--set", "pooling=[max"], "`[max` is no value"),
        (["--method", "nothing"], "there is no method `nothing`"),
        (["--backend", "loff"], "unknown back-end `loff` (did you mean `lof`?)"),
    ):
        assert cli.main([*arguments, "--force", *more]) == 2
        assert words in capsys.readouterr().err
    for more in (["--set", "pooling"], ["--channel", "left"]):
        with pytest.raises(SystemExit) as caught:
            cli.main([*arguments, *more])
        assert caught.value.code == 2


def test_an_output_that_cannot_be_written(normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["fit", str(normal), "-o", str(tmp_path / "file" / "b")]) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert "there is a file where a folder is wanted" in error
    assert "to do: check the path, its permissions and the disk" in error


def test_errors_for_programs(normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object on the standard output, whichever command it is; the sentence on the other, and status 2."""
    out, sound = tmp_path / "b", str(normal / "0.wav")
    assert cli.main(["fit", str(normal), "-o", str(out)]) == 0
    (tmp_path / "file").write_text("")
    few = tmp_path / "few"
    few.mkdir()
    for name in ("0.wav", "1.wav"):
        shutil.copy(normal / name, few)
    tampered, other = tmp_path / "tampered", tmp_path / "other"
    for copy in (tampered, other):
        shutil.copytree(out, copy)
    (tampered / "normal.npy").write_bytes(b"")
    (other / "bundle.yaml").write_text((out / "bundle.yaml").read_text().replace("format: 1", "format: 2", 1))
    for arguments, words in (
        (["fit", str(few), "-o", str(tmp_path / "c")], "2 window(s) of 1.6 s are too few"),
        (["fit", str(normal), "-o", str(tmp_path / "file" / "c")], "there is a file where a folder is wanted"),
        (["score", str(tampered), sound], "normal.npy was changed"),
        (["score", str(other), sound], "a bundle of format 2"),
        (["threshold", str(other)], "a bundle of format 2"),
        (["bench", str(tampered)], "normal.npy was changed"),
        (["score", str(out), sound, "--curve", str(tmp_path / "file" / "c.csv")], "where a folder is wanted"),
    ):
        capsys.readouterr()
        assert cli.main([*arguments, "--json"]) == 2
        found, error = capsys.readouterr()
        facts = json.loads(found)
        assert words in facts["error"]
        assert facts["fix"]
        assert facts["error"] in error


def test_the_help_names_methods_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["fit", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    listed = text.partition("methods:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines() if line[2] != " "] == METHODS
    assert max(map(len, listed.splitlines())) <= 80
    for arguments in (["--set", "help"], ["--method", "spectral_knn", "--set", "help"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(["fit", *arguments])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert "pooling=[mean, std, max]\n      mean, std, max, gwrp. Statistics over time" in text
        assert "epochs" not in text  # nothing is trained
    with pytest.raises(SystemExit) as caught:
        cli.main(["fit", "--method", "aee", "--set", "help"])
    assert caught.value.code == 2
    assert "there is no method `aee` (did you mean `ae`?)" in capsys.readouterr().err


@pytest.mark.parametrize("method", METHODS)
def test_every_key_that_is_listed_can_be_set_to_its_default(method: str) -> None:
    """And every field of the settings is listed, but those that a bundle has no use for."""
    settings = load_method(method).settings
    values: dict[str, Any] = {"method": method}
    found = keys(method)
    for key in found:
        *parents, last = key.name.split(".")
        inside = values
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[last] = yaml.safe_load(key.default)
        for word in key.words:
            assert word, key
    assert settings.model_validate(values) == settings(method=method)
    fields = settings.model_fields.keys() - set(NOT_OF_A_BUNDLE)
    listed = {key.name.partition(".")[0] for key in found}
    trained = settings(method=method).trained
    assert listed == fields if trained else listed <= fields
