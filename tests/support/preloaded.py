"""Processes of Python that start with the libraries loaded: forks of one that waits, instead of seconds of imports each.

The pipeline's tests run hundreds of stages, and importing PyTorch, pandas, MLflow and DVC costs more than what most of them do.
`python()` is a folder with a `python` that asks the waiting process to fork and run a script in its place: with the caller's
arguments, environment, folder and standard streams. The package itself is not loaded beforehand, so each runs the code of its
own project. Everything else (`python -c`, `-m`) is the interpreter as always.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path

LIBRARIES = (
    "torch", "torchaudio", "pandas", "pyarrow.parquet", "sklearn.covariance", "sklearn.neighbors", "scipy.stats",
    "matplotlib.pyplot", "mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "pydantic", "safetensors.torch",
    "soundfile", "tqdm.auto", "dvc.commands.repro", "dvc.repo.experiments", "dvc.cli", "dvc.dvcfile",
)  # fmt: skip
CLIENT = """#!{executable} -IS
import json, os, socket, sys
if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    os.execv({executable!r}, [{executable!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(asked)
    answer = server.recv(1)
sys.exit(answer[0] if answer else 255)
"""


@cache
def python() -> Path:
    """A folder for the front of PATH; the process behind it ends with this one."""
    folder = Path(tempfile.mkdtemp(prefix="preloaded-"))
    address = str(folder / "socket")
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, __file__, address]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    shim = folder / "python"
    shim.write_text(CLIENT.format(executable=sys.executable, address=address))
    shim.chmod(0o755)
    return folder


def serve(address: str) -> None:
    """Load the libraries, then fork for each that asks, until the tests' process is gone."""
    for name in LIBRARIES:
        importlib.import_module(name)
    assert "auscult" not in sys.modules
    assert threading.active_count() == 1, "a fork has none of the other threads"
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        server.settimeout(1)
        os.write(1, b"ready\n")
        while os.getppid() == parent:
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                _answer(client)
            client.close()


def _answer(client: socket.socket) -> None:
    """In the fork: run what was asked for, and tell its exit status."""
    head, streams, *_ = socket.recv_fds(client, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += client.recv(1 << 16)
    arguments, environment, folder = json.loads(asked)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    own = [os.path.abspath(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [os.path.dirname(os.path.abspath(arguments[0])), *own, *sys.path[1:]]
    sys.argv = arguments
    status = _run(arguments[0])
    client.sendall(bytes([status & 255]))
    os._exit(status & 255)


def _run(script: str) -> int:
    status = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    serve(sys.argv[1])
