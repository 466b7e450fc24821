"""Two processes that train one network end where one process does; and what becomes of a training whose process dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore

from auscult.errors import AuscultError
from auscult.settings.paths import Paths
from auscult.settings.training import Train
from auscult.training import distributed, launch
from auscult.training.modelfolder import load
from support.failing import fails, train_as_stage
from support.forks import forked, send, wait_for
from support.methods import small
from support.packed import pack_tree, tiny_profile
from support.processes import CONTRASTS, DIVISIBLE, IMAGES
from support.projects import make_project, stage_environment
from support.sockets import children, is_loopback, is_store, listening, send_bomb
from support.trees import write_tree_2020

ROOT = Path(__file__).parents[2]
TIGHT = {"rtol": 1e-11, "atol": 1e-12}
ARM = "logmel_os_scl"


# ------------------------------------------------------------------------------------------------------------- the arithmetic
@pytest.fixture(scope="module")
def results(module_path: Path) -> Path:
    """Folder with two/ and one/: what support/processes.py computes in two processes, and then in one.

    What the two listen on in the midst of a training is in listening.json.
    """
    out, packed = module_path / "results", module_path / "short"
    out.mkdir()
    units = {"fan": ["00", "02"], "valve": ["00", "02"]}  # twelve clips of 0.6 s: float64 is slow
    write_tree_2020(packed / "raw", units, train=3, normal=1, anomaly=1, seconds=0.6)
    pack_tree(packed / "raw", packed, tiny_profile(clip_seconds=0.6), ["osscl"])
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "support" / "processes.py"), packed, out]
    with open(out / "log", "w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        try:
            wait_for(lambda: len(list(out.glob("two/still*"))) == 2, lambda: process.poll() is None)
            look_at_sockets(process.pid, out)
            (out / "two" / "looked_at").touch()
            process.wait(timeout=400)
        finally:
            process.kill()  # or `with` would wait for it, whatever went wrong
    assert process.returncode == 0, (out / "log").read_text()[-5000:]
    return out


def look_at_sockets(launcher: int, out: Path) -> None:
    if not sys.platform.startswith("linux"):
        return
    found = {process: listening(process) for process in (launcher, *children(launcher))}
    for address in (address for addresses in found.values() for address in addresses):
        send_bomb(address, out / "unpickled")
    stores = [address for addresses in found.values() for address in addresses if is_store(address)]
    (out / "listening.json").write_text(json.dumps({"found": list(found.values()), "stores": stores}))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_listens_beyond_loopback_and_nothing_unpickles(results: Path) -> None:
    looked = json.loads((results / "listening.json").read_text())
    launcher, *others = looked["found"]
    assert launcher == []
    assert sum(len(addresses) > 0 for addresses in others) == 2, "gloo connects the two, so each must listen"
    assert all(is_loopback(address) for addresses in others for address in addresses)
    assert looked["stores"] == []
    assert not (results / "unpickled").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_sockets_that_take_a_pickle_are_found(tmp_path: Path) -> None:
    """The test above can fail: a store, a listener of Python's multiprocessing, an address beyond loopback."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with (
        Listener(("127.0.0.1", 0)) as python, socket.create_server(("0.0.0.0", 0)) as everywhere,
        socket.create_server(("::", 0), family=socket.AF_INET6) as also, ThreadPoolExecutor() as pool,
    ):  # fmt: skip
        found = {port: is_loopback((address, port)) for address, port in listening(os.getpid())}
        assert found[python.address[1]]
        assert not found[everywhere.getsockname()[1]]
        assert not found[also.getsockname()[1]]
        assert store.port in found
        assert is_store(("127.0.0.1", store.port))
        assert not is_store(("127.0.0.1", everywhere.getsockname()[1]))
        sent = pool.submit(send_bomb, python.address, tmp_path / "unpickled")
        while not (tmp_path / "unpickled").exists() and not (sent.done() and sent.exception()):
            with suppress(EOFError, OSError, pickle.UnpicklingError), python.accept() as connection:
                connection.recv()
        sent.result()
    assert (tmp_path / "unpickled").exists()


def test_processes_that_start_from_the_same(results: Path) -> None:
    whole, parts = of_processes(results, "equal")
    assert whole == [True, True]
    assert parts == [[True, False]] * 2


def of_processes(results: Path, name: str) -> tuple[Any, list[Any]]:
    """What one process found, and what each of the two."""
    return torch.load(results / "one" / f"{name}0.pt"), [torch.load(results / "two" / f"{name}{n}.pt") for n in (0, 1)]


@pytest.mark.parametrize("kind", IMAGES)
def test_batch_norm_of_slices_is_that_of_the_whole(results: Path, kind: str) -> None:
    """Against torch.nn.BatchNorm of all rows: output, all gradients, running statistics, evaluation."""
    whole, parts = of_processes(results, "norms")
    first, second = (part[kind] for part in parts)
    assert len(first["y"]) + len(second["y"]) == IMAGES[kind][0]
    for key, expected in whole[kind].items():
        if key in ("y", "x"):
            torch.testing.assert_close(torch.cat([first[key], second[key]]), expected, **TIGHT)
        elif key in ("weight", "bias"):
            torch.testing.assert_close(first[key] + second[key], expected, **TIGHT)
        else:
            torch.testing.assert_close(first[key], expected, **TIGHT)
            assert torch.equal(first[key], second[key])


@pytest.mark.parametrize("clips", CONTRASTS)
def test_gradients_are_those_of_one_process(results: Path, clips: int) -> None:
    """Below the exchange and above it, accumulated over two batches; one clip is fewer than there are processes."""
    whole, parts = of_processes(results, "contrast")
    assert whole[clips]["grad_0"].abs().min() > 1e-6
    for part in parts:
        torch.testing.assert_close(part[clips], whole[clips], **TIGHT)


@pytest.mark.parametrize("name", DIVISIBLE)
def test_two_processes_train_the_network_of_one(results: Path, name: str) -> None:
    """Losses, the last update's weights and gradients, and the saved weights (the moving average where there is one).

    Adam turns what is nothing but rounding (a bias before a batch norm has no gradient) into steps of some 1e-9.
    """
    one, two = results / "one" / name, results / "two" / name
    whole, parts = of_processes(results, f"{name}/update")
    assert len(whole) > 5
    assert max(float(grad.abs().max()) for _, grad in whole if grad is not None) > 1e-4
    for part in parts:
        torch.testing.assert_close(part, whole, rtol=1e-6, atol=1e-7)
    assert all(torch.equal(weight, other) for (weight, _), (other, _) in zip(*parts, strict=True))
    saved, expected = load_file(two / "model" / "weights.safetensors"), load_file(one / "model" / "weights.safetensors")
    torch.testing.assert_close(saved, expected, rtol=1e-6, atol=1e-6)
    history, straight = pd.read_csv(two / "model" / "history.csv"), pd.read_csv(one / "model" / "history.csv")
    assert "processes" not in straight
    assert set(history.pop("processes")) == {2}
    pd.testing.assert_frame_equal(history, straight, rtol=1e-8)


def test_one_process_continues_what_two_began(results: Path) -> None:
    first, second = (results / "log").read_text().split("by one process\n")
    assert "continuing" not in first
    assert "continuing after epoch 1" in second
    assert not (results / "two" / "begun" / "model").exists()
    continued, straight = (results / "one" / name / "model" for name in ("continued", "os_scl"))
    torch.testing.assert_close(
        load_file(continued / "weights.safetensors"), load_file(straight / "weights.safetensors"), rtol=1e-6, atol=1e-6
    )
    assert pd.read_csv(continued / "history.csv")["processes"].fillna(1).tolist() == [2, 1]


def test_rows_are_divided_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    for processes in (1, 2, 3, 8):
        monkeypatch.setattr(distributed, "size", lambda processes=processes: processes)
        for count in range(1, 40):
            parts = [distributed.rows_of(number, count) for number in range(processes)]
            assert [i for part in parts for i in range(count)[part]] == list(range(count))
            assert max(p.stop - p.start for p in parts) - min(p.stop - p.start for p in parts) <= 1


# ------------------------------------------------------------------------------------------------------------- the real stage
def gone(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def interrupted(project: Path, seen: float, number: signal.Signals) -> tuple[int | None, str, float]:
    """Start the stage and send it a signal once a state younger than `seen` is saved: exit status, output, that state's age."""

    def saved() -> list[float]:
        return [age for age in (f.stat().st_mtime for f in project.glob(".cache/resume/*/all.pt")) if age > seen]

    process = forked(project / "log", train_as_stage, ARM)
    assert process.pid
    try:
        wait_for(saved, process.is_alive)
        workers = [
            child for child in children(process.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        assert len(workers) == 2
        status = send(process, number)
    finally:
        process.kill()
    deadline = time.monotonic() + 60
    while not all(map(gone, workers)):
        assert time.monotonic() < deadline, "a process outlived the launcher"
        time.sleep(0.05)
    assert not (project / "models").exists()
    return status, (project / "log").read_text(), saved()[0]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the processes in /proc")
def test_a_killed_launcher_ends_all_and_the_next_start_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    epochs = 7
    project = make_project(
        tmp_path, {"overrides": {"os_scl": {"epochs": epochs, "batch_size": 7, "lr": 1e-5}}},
        {"train": {"threads": 1, "device": "cpu", "processes": 2, "checkpoint_seconds": 0}},
    )  # fmt: skip
    write_tree_2020(project / "recordings", {"fan": ["00", "02"]}, train=10, normal=1, anomaly=1)
    pack_tree(project / "recordings", project / "data" / "tiny" / "features", tiny_profile(), ["osscl"])
    inputs = Paths("tiny", project).inputs(ARM)
    inputs.parent.mkdir(parents=True)
    inputs.write_text("{}")

    status, said, seen = interrupted(project, 0.0, signal.SIGINT)
    assert status == 130
    assert "Traceback" not in said
    status, said, seen = interrupted(project, seen, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert "continuing after epoch" in said

    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "stages/train.py", ARM, "1"]
    done = subprocess.run(
        [sys.executable, *torchrun], cwd=project, env=stage_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "continuing after epoch" in done.stderr
    model = project / "models" / "tiny" / ARM / "1"
    history = pd.read_csv(model / "history.csv")
    assert history["epoch"].tolist() == list(range(1, epochs + 1))
    assert set(history["processes"]) == {2}
    assert load(model).networks
    assert json.loads(Paths("tiny", project).cost("train", ARM, 1).read_text())["train_seconds"] > 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("user", "^the loss is nan\n  where: network `all`\n  to do: lower `lr`$"),
        ("bug", "^process 1 of 2 .numbered from 0. failed.*: ZeroDivisionError..at last..\n(.*\n)*.*in fails\n"),
        (
            "killed",
            "^process 1 of 2 .numbered from 0. was ended by SIGKILL, and the training with it\n  to do: run the same",
        ),
    ],
)
def test_a_failure_is_told_once(
    how: str, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In processes that are forked, and so need not load PyTorch again."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr("torch.multiprocessing.get_context", lambda method: fork)
    begun = time.monotonic()
    with pytest.raises(AuscultError) as caught:
        launch.spawn(fails, (how,), 2)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "Traceback" not in capfd.readouterr().err
    assert not multiprocessing.active_children()
    assert time.monotonic() - begun < launch.TIMEOUT.total_seconds() / 2


def test_one_message_for_all_processes(tmp_path: Path) -> None:
    def text(exits: dict[int, int]) -> str:
        return str(launch.explained(exits, 3, tmp_path))

    term, lost = -signal.SIGTERM, launch.LOST
    assert "process 2 of 3 (numbered from 0) was ended by SIGSEGV" in text({0: lost, 2: -signal.SIGSEGV, 1: term})
    assert "process 1 of 3 (numbered from 0) was ended by SIGTERM" in text({1: term, 0: term})
    assert "lost each other" in text({0: lost, 1: lost})
    assert "short of memory" in text({0: lost, 1: -signal.SIGKILL})
    (tmp_path / "1.log").write_text("ZeroDivisionError: at last\n")
    assert re.search("process 1 .*status 3.*\n.*ZeroDivisionError: at last", text({1: 3, 0: lost}), re.S)
    said = ["the loss is nan", "network `all`", "lower `lr`"]
    for number, report in ((1, said), (0, ["later", "", ""])):
        (tmp_path / f"{number}.json").write_text(json.dumps(report))
        time.sleep(0.02)
    assert text({0: 1, 1: term}) == str(AuscultError(*said))


def test_processes_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings = small("os_scl")
    assert launch.wanted(settings, Train(device="cpu")) == 1
    assert launch.wanted(settings, Train(device="cpu", processes="all")) == 1
    assert launch.wanted(settings, Train(device="cpu", processes=3)) == 3
    assert launch.wanted(small("ae"), Train(device="cpu", processes=3)) == 1
    assert launch.wanted(small("spectral_knn"), Train(device="cpu", processes=3)) == 1
    assert capsys.readouterr().err.count("is trained by one process") == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert launch.wanted(settings, Train(device="cuda", processes="all")) == 2
    with pytest.raises(AuscultError, match="3 processes need as many GPUs, and there are 2"):
        launch.wanted(settings, Train(device="cuda", processes=3))
    with pytest.raises(AuscultError, match="would share `cuda:1`"):
        launch.wanted(settings, Train(device="cuda:1", processes=2))
