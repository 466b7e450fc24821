"""Every command of the pages is run here, on recordings and results made up for it, or stands below with why it is not.

A command that is new, or was changed, is in neither, and fails. `auscult` runs within this process; each file that it is told
to write is looked for, and its exit status must be that of its verdict. What a command does is tested where it lives.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from auscult import cli
from support.page_commands import page_commands
from support.page_dvc import git, make_clone
from support.page_world import make_world

NOT_RUN: dict[str, tuple[str, ...]] = {
    "trains for minutes to days; tests/pipeline and tests/data run these verbs, `--temp`, `--queue` too, on small projects": (
        "auscult run --backends",
        "auscult run noise_robustness --backends",
        "auscult run lowpass",
        "auscult run extras",
        "auscult run extras:sweep-project",
        "dvc exp run -S fph.reduction=32",
        "dvc exp run -S 'fph.reduction=16,64' --queue",
        "dvc exp run --run-all",
        "dvc exp run --queue -S 'fph.reduction=8,16,32,64'",
        "dvc exp run --run-all -j 2",
        "dvc exp run -S 'train.seeds=[2024,2025,2026]'",
        "dvc exp run -S 'score.backends=[native,knn_cosine,centre]'",
        "dvc exp run -S evaluate.replicates=5000 -S score.k=3",
        "auscult run <study> --temp -n table -S data.profile=<profile>",
        "dvc exp run --temp -n first -S data.profile=arrays -S 'profiles/arrays.yaml:source.path=/data/features'",
        "dvc exp run --temp -n first -S data.profile=folder -S 'profiles/folder.yaml:source.path=/data/valve'",
        "dvc exp run --temp -n loudest -S data.profile=folder -S 'profiles/folder.yaml:source.path=/data/valve' "
        "-S 'spectral_knn.pooling=[max]'",
        "dvc exp run --temp -n tabled -S data.profile=folder -S 'profiles/folder.yaml:source.path=/data/valve' "
        "-S 'profiles/folder.yaml:source.table=what.csv' -S profiles/folder.yaml:class_label=attributes",
    ),
    "fetches a challenge's data set, and trains for hours": (
        "auscult run os_scl_components --temp -n table -S data.profile=dcase2020",
        "auscult run os_scl_baselines --temp -n table2 -S data.profile=dcase2020 -S train.threads=8",
        "auscult run extras:submission --temp -n e2025 -S data.profile=dcase2025 -S supplement.clean=true "
        "-S supplement.noise_probability=0.5",
        "auscult run extras:submission --temp -n e2026 -S data.profile=dcase2026 -S data.input=w1",
        "auscult run two_channels --temp -n inputs -S data.profile=dcase2026 "
        "-S 'profiles/dcase2026.yaml:inputs=[near,far,mean,difference,w1,ss]'",
        "auscult run extras:sweep-project -S data.profile=dcase2026",
        "sha256sum data/dcase2026/sweep/project/choice/choice.json > choice.sha256",
        "git add params.yaml '*dvc.lock' choice.sha256",
        'git commit -m "Choice, before the labels"',
        "git tag -s registered-2026",
        "dvc push extras/dvc.yaml:sweep-project",
    ),
    "needs several GPUs, or a cluster; tests/training and tests/cluster run two processes": (
        "dvc exp run -S train.processes=all",
        "torchrun --nproc-per-node 4 stages/train.py tfst_os_scl 2024",
        "torchrun --nnodes 2 --node-rank 0 --nproc-per-node 4 --master-addr a --master-port 29500 "
        "stages/train.py tfst_os_scl 2024",
        "#SBATCH --job-name=auscult --array=0-6 --gres=gpu:1 --cpus-per-task=4 --mem=16G --time=04:00:00",
        "dask scheduler --host 10.0.0.1 --port 8786",
        "dask worker tcp://head:8786 --nthreads 1",
        "CUDA_VISIBLE_DEVICES=1 dask worker tcp://head:8786 --nthreads 1",
        "auscult run band_stack --scheduler tcp://head:8786",
        "auscult score pump.bundle s3://plant/2026/ --scheduler tcp://head:8786 --out s3://plant/scores/pump",
        "auscult score pump.bundle /archive/2026 --scheduler local:4 --out scores/",
    ),
    "asks a DVC remote that a group shares; tests/pipeline has one in a folder": (
        "dvc repro --pull",
        "dvc repro --pull train@ae-2024 train@stgram_mfn-2024",
        "dvc pull data/synthetic/scores/project",
        "dvc get -o scores <address of the repository> data/synthetic/scores/project",
        "dvc exp push origin <name>",
        "dvc exp branch table2 results",
    ),
    "needs a broker, a microphone or a stream; tests/commands and tests/detector make them": (
        "auscult watch pump.bundle incoming/ --alarm 3/5 --mqtt mqtt://broker/pump",
        "auscult watch pump.bundle incoming/ --out pump.csv --alarm 3/5 --hold 600 --mqtt mqtts://line3@broker.plant/hall/pump",
        'auscult listen pump.bundle --device "USB microphone" --out pump.csv --alarm 3/5',
        "auscult listen pump.bundle rtsp://camera.plant/sound --out pump.csv",
    ),
    "takes ten seconds; tests/commands/test_compare.py, test_bench.py and tests/detector/test_exporting.py run these verbs": (
        "auscult compare recordings/normal",
        "auscult compare valve/normal",
        "auscult compare valve/normal --faults valve/anomaly",
        "auscult export pump.bundle -o pump.onnx",
        "auscult score pump.onnx today/",
        "auscult bench pump.bundle",
    ),
    "changes DVC's graph; tests/pipeline/test_graph.py": ("auscult run lowpass --no-run",),
    "serves until it is stopped; tests/tracking and tests/pipeline ask the same model and store": (
        "mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1",
        "mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --allowed-hosts "
        "'auscult.localhost:*,127.0.0.1:*' --cors-allowed-origins http://auscult.localhost:5000",
        "python -m auscult.tracking.serving tfst_os_scl",
        "MLFLOW_TRACKING_URI=sqlite:///mlflow.db mlflow models serve -m runs:/<run>/scorer --env-manager local --host 127.0.0.1",
        'printf \'{"dataframe_records": [{"wav": "%s", "machine": "fan", "unit": "00"}]}\' "$(base64 -w0 clip.wav)"',
        "curl -s -H 'Content-Type: application/json' --data-binary @- http://127.0.0.1:5000/invocations",
    ),
    "asks a package registry or a server": (
        "pip install .",
        "pip install auscult-score",
        'pip install "auscult[listen]"',
        'pip install "auscult[export]"',
        "pip install -c constraints.txt -e '.[docs]'",
        "pip install -c constraints.txt -e '.[experiments]'",
        "pip install -c constraints.txt -e '.[experiments,cluster]'",
        "pip install -c constraints.txt -e '.[experiments,encoders]'",
        "pip install -c constraints.txt -e '.[test]'",
        "python3 -m venv .venv",
        ". .venv/bin/activate",
        "git clone <the project>",
        "git clone <this repository> auscult",
        "cd auscult",
        'docker build -f .devcontainer/Dockerfile -t auscult --build-arg VERSION="$(git describe --tags)" .',
        'docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/work" auscult fit recordings/normal -o pump.bundle',
        'docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/work" auscult watch pump.bundle incoming/',
    ),
    "is run by tests/test_docs.py, tests/test_site.py and tests/test_benchmarks.py, or is all tests": (
        "PYTHONPATH=src python -m auscult.pipeline",
        "pytest",
        "pytest tests/scoring/test_backends.py -k centre",
        "pytest tests/methods/test_contract.py tests/settings/test_config.py -k band_net",
        "pytest tests/papers/test_fidelity.py",
        "python docs/make_api.py site",
        "mkdocs build -f docs/site/mkdocs.yml",
        "PYTHONPATH=src python benchmarks/run.py --authors ../OS-SCL --asdkit ../dcase-asd-toolkit",
        "PYTHONPATH=src python benchmarks/paper_scale.py --out profile",
        "PYTHONPATH=src python benchmarks/paper_scale.py --out profile --cases tfst_os_scl han --against COMMIT",
    ),
}
"""Why commands are not run -> these commands."""

RUN = [command for command in page_commands() if command not in {one for part in NOT_RUN.values() for one in part}]
AFTER = {
    "auscult drift pump.bundle pump.csv": "auscult watch pump.bundle incoming/ --out pump.csv",
}
"""A command that reads what another of its page writes -> that one. Both are run together."""
VERDICTS = {"score": "ANOMALOUS", "drift": "moved: ", "checkpoints": "missing"}
"""Verbs whose exit status is 1 -> the word that they then say."""
WRITES = ("-o", "--out", "--html", "--curve")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    return make_world(tmp_path_factory.mktemp("world") / "project", packed)


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(made, folder, symlinks=True)
    for name in ("AUSCULT_CHECKPOINTS", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


def written(words: list[str]) -> list[str]:
    """The files that a command is told to write."""
    found, inside = [], False
    for word in words:
        if word.startswith("-"):
            inside = word in WRITES
        elif inside:
            found.append(word)
    return found


@pytest.mark.parametrize("command", [one for one in RUN if one.startswith("auscult ") and one not in AFTER.values()])
def test_a_command_runs(command: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if command in AFTER:
        run(AFTER[command], world, capsys)
    run(command, world, capsys)


def run(command: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command of `auscult` in the folder `world`; it must end as its verdict says, and leave its files."""
    _, verb, *words = shlex.split(command)
    outputs = [world / name for name in written(words)]
    for path in outputs:  # what it writes is not there yet
        if path.is_dir():
            shutil.rmtree(path)
    more = ["--once"] if verb == "watch" else []  # it would go on until Ctrl-C
    capsys.readouterr()
    status = cli.main([verb, *words, *more])
    out, err = capsys.readouterr()
    assert "error" not in err
    assert out.strip()
    told = verb in VERDICTS and bool(words) and VERDICTS[verb] in out
    assert status == int(told), (out, err)
    assert [path for path in outputs if not path.exists()] == []


ON_A_CLONE = (
    ("dvc repro", ""),
    ("git add -A", ""),
    ('git commit -m "results"', "files changed"),
    ("dvc exp run -n narrow -S fph.reduction=16", "Ran experiment(s): narrow"),
    ("dvc exp show", ""),
    ("dvc exp show --only-changed --drop Created --drop '.*pauc' --drop '.*official'", "fph.reduction"),
    ("dvc metrics diff HEAD narrow", "-480"),
    ("dvc params diff HEAD narrow", "16"),
    ("dvc plots diff HEAD narrow", "index.html"),
    ("dvc plots diff HEAD narrow --targets data/synthetic/results/project/plots/roc.csv", "index.html"),
    ("dvc exp branch table results", "from experiment 'table'"),
    ("git merge results", "dvc.lock"),
    ("dvc remote add -d shared /mnt/share/auscult", "default remote"),
    ('git commit -m "remote" .dvc/config', "1 file changed"),
    ("dvc push --run-cache", "files pushed"),
    ("dvc get . metrics/arrays --rev first -o results", ""),
    ("dvc get . metrics/folder --rev first -o results", ""),
)
"""Commands of the pages in the order in which they are run on a clone -> a word of what they say."""
BETWEEN = {
    "dvc exp show": "git checkout -q -- .",
    "dvc exp branch table results": "dvc exp run -q -n table -S score.k=2",
    "git merge results": "git checkout -q -- .",
    "dvc push --run-cache": "dvc remote modify -q shared url {folder}/shared",  # no machine has /mnt/share
    "dvc get . metrics/folder --rev first -o results": "git clean -q -d -f results",
}
"""What somebody at work does before a command."""


def test_commands_of_dvc_run_on_a_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dvc = pytest.importorskip("dvc.cli")
    pytest.importorskip("dvc.logger").setup()  # it writes to what stdout was when DVC was loaded, by whatever test
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    folder = make_clone(tmp_path / "auscult")
    monkeypatch.chdir(folder)

    def said(command: str) -> str:
        program, *words = shlex.split(command)
        if program == "git":
            return git(folder, *words)
        capfd.readouterr()
        status = dvc.main(words)
        out, err = capfd.readouterr()
        assert status == 0, f"{command}\n{out}\n{err}"
        return out + err

    for command, word in ON_A_CLONE:
        if command in BETWEEN:
            said(BETWEEN[command].format(folder=tmp_path))
        text = said(command)
        assert word in text, f"{command}\n{text}"
    assert '"auc": 640' in (folder / "metrics/synthetic/metrics.json").read_text()
    assert (folder / "results" / "table.md").read_text() == "# A table"
    assert list((tmp_path / "shared" / "files").rglob("*.dir")) != []


def test_every_other_command_stands_in_the_list_with_its_reason() -> None:
    of_pages, listed = set(page_commands()), [command for part in NOT_RUN.values() for command in part]
    assert len(listed) == len(set(listed))
    assert set(listed) <= of_pages, "no page has these any more"
    run = {command for command, _ in ON_A_CLONE}
    assert run <= of_pages, "no page has these any more"
    assert [one for one in RUN if not one.startswith("auscult ") and one not in run] == [], "neither run nor listed"
