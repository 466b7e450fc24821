"""The `auscult` command: what it prints, how it exits, what it does not import."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import auscult
from auscult import cli
from support.projects import ROOT, stage_environment


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with the shipped checkpoints.yaml and no checkpoint."""
    for name in ("AUSCULT_CHECKPOINTS", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "checkpoints.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def place(project: Path, name: str, file: str) -> Path:
    """Some weights as a checkpoint's file."""
    path = project / "checkpoints" / name / file
    path.parent.mkdir(parents=True)
    torch.save({"a": torch.ones(2**18)}, path)
    return path


@pytest.mark.parametrize("arguments", [["--help"], ["checkpoints", "--help"]])
def test_help_teaches(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "auscult checkpoints beats_iter3" in text
    for command in cli.COMMANDS:
        assert command.__doc__
        assert arguments != ["--help"] or re.search(rf"^ +{command.__name__}\b", text, re.M)


def test_the_examples_of_the_help_are_understood(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in cli.COMMANDS:
        example = cli._paragraphs(command)[-1]
        assert example.startswith(f"Example: auscult {command.__name__} ")
        cli._parser().parse_args(shlex.split(example)[2:])
    assert cli.main(["checkpoints", "beats_iter3"]) == 1
    assert "beats_iter3" in capsys.readouterr().out


def test_a_table_of_all(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["checkpoints"]) == 0  # nothing is wrong
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["checkpoint", "state", "size", "licence", "where"]
    beats = next(line for line in lines if line.startswith("beats_iter3 "))
    assert beats.split()[1:4] == ["missing", "~345", "MiB"]
    assert beats.endswith(os.path.join("checkpoints", "beats_iter3", "BEATs_iter3.pt"))
    where = (
        f"put BEATs_iter3.pt into {os.path.join('checkpoints', 'beats_iter3')} (from https://github.com/microsoft/unilm"
    )
    assert any(where in line for line in lines)


def test_exit_status_of_named_checkpoints(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place(project, "atst_base", "atstframe_base.ckpt")
    assert cli.main(["checkpoints", "atst_base"]) == 0
    out = capsys.readouterr().out
    assert "unverified" in out
    assert "1 MiB" in out  # of the file, not of the entry
    assert "beats_iter3" not in out
    assert cli.main(["checkpoints", "atst_base", "beats_iter3"]) == 1
    (project / "checkpoints" / "beats_iter3").mkdir()
    (project / "checkpoints" / "beats_iter3" / "BEATs_iter3.pt").write_text("<html>sign in</html>")
    capsys.readouterr()
    assert cli.main(["checkpoints"]) == 1  # wrong, although not named
    out = capsys.readouterr().out
    assert "a web page was saved in its place" in out


def test_another_file_is_wrong(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place(project, "beats_iter3", "BEATs_iter3.pt")
    assert cli.main(["checkpoints", "beats_iter3"]) == 1
    assert "another file than expected" in capsys.readouterr().out


def test_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place(project, "atst_base", "atstframe_base.ckpt")
    assert cli.main(["checkpoints", "--json", "atst_base", "beats_iter3"]) == 1
    atst, beats = json.loads(capsys.readouterr().out)
    assert (atst["name"], atst["state"]) == ("atst_base", "unverified")
    assert len(atst["sha256"]["atstframe_base.ckpt"]) == 64
    assert Path(atst["path"]).is_file()
    assert (beats["state"], beats["sha256"], beats["entry"]["encoder"]) == ("missing", {}, "beats")
    assert cli.main(["checkpoints", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) > 10


def test_what_a_user_can_mend_is_one_message(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["checkpoints", "beats_iter"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: there is no checkpoint `beats_iter` (did you mean `beats_iter3`?)")
    (project / "checkpoints.yaml").unlink()
    assert cli.main(["checkpoints"]) == 2
    assert "run from the root of the project" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["checkpoint"], ["checkpoints", "--jsno"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: auscult" in capsys.readouterr().err


def test_an_interruption_and_a_file_that_cannot_be_read(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(error: BaseException) -> None:
        def status(name: str) -> None:
            raise error

        monkeypatch.setattr("auscult.encoders.checkpoints.status", status)

    raising(KeyboardInterrupt())
    assert cli.main(["checkpoints"]) == 130
    raising(PermissionError(13, "Permission denied", "x.pt"))
    assert cli.main(["checkpoints"]) == 2
    assert "error: Permission denied\n  where: x.pt" in capsys.readouterr().err
    raising(ZeroDivisionError())
    capsys.readouterr()
    assert cli.main(["checkpoints"]) == 2  # 1 would be a verdict
    err = capsys.readouterr().err
    assert err.startswith("Traceback")  # a bug keeps it
    assert err.endswith("ZeroDivisionError\n")


def run(project: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=project, env=stage_environment(), capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [["--help"], ["checkpoints"], ["checkpoints", "beats_iter3", "--json"]])
def test_nothing_heavy_is_imported(project: Path, arguments: list[str]) -> None:
    code = f"""
import sys
from auscult import cli
try:
    cli.main({arguments})
except SystemExit:
    pass
print(sorted({{"torch", "numpy", "pandas", "sklearn", "transformers", "dvc", "mlflow"}} & set(sys.modules)), file=sys.stderr)
"""
    result = run(project, code)
    assert result.stderr == "[]\n", result.stderr


@pytest.mark.parametrize(
    "command",
    [
        "fit nowhere -o b", "fit . -o taken", "score nowhere a.wav", "score taken nowhere.wav", "threshold nowhere",
        "watch nowhere .", "watch taken nowhere", "export nowhere -o m.onnx", "bench nowhere", "evaluate nowhere",
    ],
)  # fmt: skip
def test_a_wrong_path_is_named_before_torch_is_imported(tmp_path: Path, command: str) -> None:
    """Which takes seconds, and ten on a busy machine."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "bundle.yaml").write_text("")
    code = f"""
import sys
from auscult import cli
status = cli.main({command.split()})
print(status, sorted({{"torch", "pandas", "sklearn"}} & set(sys.modules)))
"""
    result = run(tmp_path, code)
    assert result.stdout == "2 []\n", result.stdout
    assert "to do: " in result.stderr
    assert ("nowhere" in result.stderr) or ("taken" in result.stderr)


def test_an_output_that_takes_nothing_more(project: Path) -> None:
    """As `auscult checkpoints | head -1`, and on a full disk: status 2, no traceback."""
    command = [sys.executable, "-m", "auscult.cli", "checkpoints"]
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    for output, said in ((writing, ""), (full, "error: the output cannot be written: No space left on device\n")):
        process = subprocess.run(
            command, cwd=project, env=stage_environment(), stdout=output, stderr=subprocess.PIPE, text=True
        )
        os.close(output)
        assert (process.returncode, process.stderr) == (2, said)


NAMES = """
import os, sys
from pathlib import Path
from auscult import cli
def status(arguments):
    print(Path(os.fsdecode(b"p\\xfcmpe-\\xc3\\xa9.wav")), flush=True)
    raise OSError(5, "broken", os.fsdecode(b"p\\xfcmpe"))
cli._parser = lambda: type("P", (), {"parse_args": lambda self, argv: cli.Namespace(run=status)})()
sys.exit(cli.main([]))
"""


@pytest.mark.parametrize("options", [[], ["-OO"]])
@pytest.mark.parametrize(
    "locale", [{}, {"LC_ALL": "POSIX"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_names_that_the_terminal_has_no_letters_for(project: Path, locale: dict[str, str], options: list[str]) -> None:
    environment = {**stage_environment(), **locale}
    process = subprocess.run(
        [sys.executable, *options, "-c", NAMES], cwd=project, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 2, process.stderr
    assert process.stdout.startswith("p\\udcfcmpe-")
    assert (
        process.stderr == "error: broken\n  where: p\\udcfcmpe\n  to do: check the path, its permissions and the disk\n"
    )


def test_without_docstrings_and_without_a_home(project: Path) -> None:
    """`python -OO` drops the texts of the help, and a container may have neither HOME nor a user's name."""
    environment = {key: value for key, value in stage_environment().items() if key not in ("HOME", "USER", "LOGNAME")}
    for arguments, words in ((["--help"], "auscult score --help"), (["--version"], f"auscult {auscult.__version__}\n")):
        process = subprocess.run(
            [sys.executable, "-OO", "-m", "auscult.cli", *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        assert words in process.stdout


def test_a_user_id_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch asks for the name when it first trains."""
    import getpass
    import importlib

    def nobody() -> str:
        if "LOGNAME" in os.environ:
            return os.environ["LOGNAME"]
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setenv("LOGNAME", "x")
    monkeypatch.delenv("LOGNAME")
    monkeypatch.setattr(getpass, "getuser", nobody)
    importlib.reload(auscult)
    assert getpass.getuser() == "nobody"


def test_the_command_is_declared() -> None:
    assert 'auscult = "auscult.cli:main"' in (ROOT / "pyproject.toml").read_text()
