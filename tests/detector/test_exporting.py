"""`auscult export`: one file that scores as the bundle does."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from auscult import cli
from auscult.detector import exported
from auscult.detector.bundle import Bundle, FitSettings, fit
from auscult.detector.onnx import export as exporting
from auscult.detector.onnx.export import probes, scorer
from auscult.detector.onnx.network import Neighbours
from auscult.detector.onnx.spectrum import ExportLogMel, framed
from auscult.detector.score import score_file
from auscult.errors import AuscultError
from auscult.features import LOG_MELS, exact_spectrogram, spectrogram
from auscult.features.logmel import log_mel
from auscult.methods import load_method
from auscult.methods.base import Batch, Network, Shape
from auscult.methods.glow_aff import GlowAff
from auscult.methods.windows import mean_over_windows
from auscult.models.tfgram import adaptive_max_pool
from auscult.training import modelfolder
from support.methods import small

ROOT = Path(__file__).parents[2]
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in exporting.PACKAGES), reason="the group `export` is missing"
)


@pytest.fixture(scope="module")
def bundle(module_path: Path) -> Bundle:
    folder = module_path / "export"
    (folder / "normal").mkdir(parents=True)
    draw = np.random.default_rng(3)
    for number in range(14):
        soundfile.write(folder / "normal" / f"{number}.wav", draw.standard_normal(8000) * 0.05, 8000, subtype="PCM_16")
    return fit(folder / "normal", folder / "pump", FitSettings(backend="knn_euclidean", k=2))


@pytest.mark.parametrize("name", LOG_MELS)
@pytest.mark.parametrize("sample_rate", [16000, 8000])
def test_the_front_end_is_that_of_float64(name: str, sample_rate: int) -> None:
    """Of pure tones, too: beside them torch's float32 is off by a hundredth of a dB."""
    time = np.arange(12000)
    tones = np.stack([0.5 * np.sin(0.1 * time), 0.9 * np.sin(1.7 * time)]).astype(np.float32)
    wave = torch.from_numpy(np.concatenate([probes(12000, 4), tones]))
    truth = spectrogram(wave.double(), name, sample_rate)
    mine = ExportLogMel(LOG_MELS[name], sample_rate)(wave)
    assert mine.shape == truth.shape
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, truth.float(), rtol=0, atol=5e-5)
    # NumPy's transform and torch's, both in float64: a step of float32 apart where one is rounded up and the other down.
    np.testing.assert_array_max_ulp(exact_spectrogram(wave.numpy(), name, sample_rate), truth.float().numpy(), maxulp=1)
    if LOG_MELS[name].log == "max":
        assert (spectrogram(wave, name, sample_rate) - truth).abs().max() > 5e-4


@pytest.mark.parametrize(("size", "hop"), [(12, 3), (12, 12), (12, 5), (7, 2), (2048, 512)])
def test_frames_are_those_of_unfold(size: int, hop: int) -> None:
    for samples in (size, size + 1, 3 * size + hop - 1):
        wave = torch.arange(2.0 * samples).reshape(2, samples)
        torch.testing.assert_close(framed(wave, size, hop), wave.unfold(1, size, hop), rtol=0, atol=0)


@pytest.mark.parametrize("size", [96, 100, 400])
def test_lengths_that_are_no_power_of_two(size: int) -> None:
    settings = replace(LOG_MELS["osscl"], n_fft=size, hop=size // 2, mels=10)
    wave = torch.from_numpy(probes(2000, 3))
    expected = log_mel(wave.double(), settings).float()
    torch.testing.assert_close(ExportLogMel(settings, 16000)(wave), expected, rtol=0, atol=5e-5)


def test_an_encoder_hears_in_float64() -> None:
    wave = torch.from_numpy(probes(16000, 2))
    network = load_method("frozen").build(small("frozen"), Shape(3, 0, 0, 16000))
    encoder: Any = network.encoder
    truth = encoder.front_end(wave.double()).float()
    assert (network.front_end(wave) - truth).abs().max() > 1e-4  # type: ignore[operator]
    network.exact_spectra()
    torch.testing.assert_close(network.front_end(wave), truth, rtol=0, atol=0)  # type: ignore[operator]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_neighbours_are_those_of_scikit_learn(metric: str, k: int) -> None:
    from sklearn.neighbors import NearestNeighbors

    draw = np.random.default_rng(0)
    bank = draw.standard_normal((20, 7)).astype(np.float32) + 5
    queries = np.concatenate([bank[:3], draw.standard_normal((5, 7)).astype(np.float32)])
    search = NearestNeighbors(n_neighbors=min(k, 20), metric=metric, algorithm="brute").fit(bank.astype(np.float64))
    wanted = search.kneighbors(queries.astype(np.float64))[0].mean(axis=1)
    np.testing.assert_allclose(Neighbours(bank, k, metric)(torch.from_numpy(queries)).numpy(), wanted, atol=3e-7)


def test_what_is_traced_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes another form while a network is exported, against what it is otherwise."""
    draw = torch.Generator().manual_seed(0)
    image, short = torch.randn(2, 3, 1, 101, generator=draw), torch.randn(3, 8, 20, generator=draw)
    flows = GlowAff(small("glow_aff"), Shape(2, 128, 40, 20480)).eval()
    randomise(flows)
    batch = Batch(mel=torch.randn(3, 128, 40, generator=draw), candidates=torch.ones(3, 2, dtype=torch.bool))

    def evaluate(cut: Tensor) -> tuple[Tensor, ...]:
        return cut.mean(2), cut.square().sum((1, 2))

    def all_of_them() -> list[Tensor]:
        pooled = [adaptive_max_pool(image, outputs) for outputs in (1, 7, 50, 100, 101)]
        with torch.no_grad():
            return [*pooled, *mean_over_windows(evaluate, short, 5, 3, chunk=4), flows.embed(batch)[1]["native"]]

    expected = all_of_them()
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for number, (mine, usual) in enumerate(zip(all_of_them(), expected, strict=True)):
        exact = {"rtol": 0, "atol": 0} if number < 5 else {}  # maxima, not sums
        torch.testing.assert_close(mine, usual, **exact)


def randomise(network: Network) -> None:
    """Move every weight a little, so that nothing is zero or one by its start."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=draw)


@needs_onnx
def test_the_command_writes_what_scores_alike(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    path = tmp_path / "model.onnx"
    assert cli.main(["export", str(bundle.folder), "-o", str(path)]) == 0
    assert "scores agree" in capsys.readouterr().out
    waves = np.random.default_rng(1).standard_normal((5, bundle.window)).astype(np.float32) * 0.03
    got = exporting.session(path).run(["score"], {"waveform": waves})[0]
    np.testing.assert_allclose(got, bundle.scores(waves), rtol=1e-5)
    facts = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert facts["auscult.sample_rate"] == "8000"
    assert facts["auscult.window"] == str(bundle.window)
    assert float(facts["auscult.threshold"]) == bundle.threshold
    assert facts["auscult.method"] == "spectral_knn"
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def int8_scores(path: Path, waves: np.ndarray) -> np.ndarray:
    """Of what onnxruntime's quantizer makes of a file, with nothing but its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(path), str(path.with_suffix(".int8.onnx")))
    scores: np.ndarray = exporting.session(path.with_suffix(".int8.onnx")).run(["score"], {"waveform": waves})[0]
    return scores


@needs_onnx
def test_int8_leaves_spectrum_and_distances_alone(bundle: Bundle, tmp_path: Path) -> None:
    """A method that learns nothing has nothing else, and scores as before."""
    waves = probes(bundle.window, 4)
    exporting.export(bundle, tmp_path / "m.onnx")
    np.testing.assert_allclose(int8_scores(tmp_path / "m.onnx", waves), bundle.scores(waves), rtol=1e-5)


@needs_onnx
def test_a_file_that_scores_otherwise_is_not_kept(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Neighbours.forward
    monkeypatch.setattr(Neighbours, "forward", lambda self, x: forward(self, x) * 1.001)
    with pytest.raises(AuscultError, match="scores otherwise"):
        exporting.export(bundle, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@needs_onnx
def test_an_exported_file_is_judged_like_its_bundle(bundle: Bundle, tmp_path: Path) -> None:
    """Recordings of one window, of many, of another rate, of another level; and onnxruntime, NumPy and soundfile are enough."""
    exporting.export(bundle, tmp_path / "pump.onnx")
    draw = np.random.default_rng(4)
    sounds = {
        "normal": (0.05 * draw.standard_normal(8000), 8000),
        "many": (0.05 * draw.standard_normal(60000), 8000),
        "tone": (0.05 * draw.standard_normal(60000) + 0.1 * np.sin(np.arange(60000) * 0.7), 8000),
        "other rate": (0.05 * draw.standard_normal(44100), 44100),
        "loud": (0.5 * draw.standard_normal(8000).clip(-2, 2), 8000),
        "short": (0.05 * draw.standard_normal(7900), 8000),
    }
    for name, (sound, rate) in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, rate, subtype="PCM_16")
    loaded = exported.load(tmp_path / "pump.onnx")
    verdicts = set()
    for name in sounds:
        mine, its = (score_file(each, tmp_path / f"{name}.wav") for each in (loaded, bundle))
        if name != "short":  # which the bundle hears as long as it is, and the file mirrored
            assert mine.score == pytest.approx(its.score, rel=1e-4)
            assert replace(mine, score=0.0) == replace(its, score=0.0)
        assert mine.verdict == its.verdict
        verdicts.add(mine.verdict)
    assert verdicts == {"normal", "ANOMALOUS", "check recording"}
    of_pydantic = {"pydantic", "pydantic_core", "annotated_types", "typing_inspection"}
    needs = (
        {"onnxruntime"},
        {"onnxruntime", "yaml", "safetensors", *of_pydantic},
    )  # the second in the process of the first
    (tmp_path / "one").mkdir()  # window each: of many, scipy.special is asked where it is installed
    for name in ("normal", "loud", "short"):
        (tmp_path / f"{name}.wav").rename(tmp_path / "one" / f"{name}.wav")
    soundfile.write(tmp_path / "one" / "tone.wav", sounds["tone"][0][:8000], 8000, subtype="PCM_16")
    code = f"""
import sys
from auscult import cli
for bundle in {str(tmp_path / "pump.onnx")!r}, {str(bundle.folder)!r}:
    status = cli.main(["score", bundle, {str(tmp_path / "one")!r}, "--format", "jsonl"])
    print("loaded", status, *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    loaded_lines = [line.split() for line in lines if line.startswith("loaded")]
    rows = [json.loads(line) for line in lines if not line.startswith("loaded")]
    assert [each["verdict"] for each in rows].count("ANOMALOUS") == 2, done.stderr
    known = {
        "auscult",
        "numpy",
        "soundfile",
        "_soundfile",
        "_soundfile_data",
        "cffi",
        "_cffi_backend",
        "typing_extensions",
    }
    started = {"_distutils_hack", "_virtualenv", "sitecustomize"}  # by Python itself
    for (_, status, *modules), needed in zip(loaded_lines, needs, strict=True):
        assert status == "2"  # one recording is to be checked
        third = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
        third = {name for name in third if not name.startswith(("__", "_cython", "cython_", "_sysconfigdata", "_yaml"))}
        assert needed <= third
        assert third - started <= known | needed


@needs_onnx
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("threshold", "nan", "no numbers"), ("normal", "[0.5, NaN]", "no numbers"), ("window", "7999", "the file takes others"),
        ("rate", "1.0", "no bundle has"), ("format", "2", "format 2, and 1 is read"),
        ("normal", None, "an older version wrote it"),
    ],
)  # fmt: skip
def test_an_exported_file_that_says_what_cannot_be(
    key: str, value: str | None, said: str, bundle: Bundle, tmp_path: Path
) -> None:
    """Above a threshold that is no number nothing would be anomalous."""
    import onnx

    facts = exporting.metadata_of(bundle)
    one, size = onnx.TensorProto.FLOAT, ["n", bundle.window]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceMax", ["waveform"], ["score"], axes=[1], keepdims=0)], "g",
        [onnx.helper.make_tensor_value_info("waveform", one, size)], [onnx.helper.make_tensor_value_info("score", one, ["n"])],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    for name, text in {**facts, f"auscult.{key}": value}.items():
        if text is not None:
            model.metadata_props.add(key=name, value=str(text))
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(AuscultError, match=said):
        exported.load(tmp_path / "a.onnx")


def test_an_exported_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no network")
    (tmp_path / "a.wav").write_bytes(b"")
    assert cli.main(["info", str(tmp_path / "a.onnx")]) == 2
    assert "`auscult score` alone takes an exported file" in capsys.readouterr().err
    for arguments, said in (
        (["b.onnx", "a.wav"], "there is no such file"), (["a.onnx", "a.wav"], "not a readable ONNX file"),
        (["a.onnx", "a.wav", "--html", "page.html"], "--html and --scheduler take the bundle itself"),
    ):  # fmt: skip
        assert cli.main(["score", *(str(tmp_path / each) if each[0] in "ab" else each for each in arguments)]) == 2
        assert said in capsys.readouterr().err


def test_missing_packages_are_named(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cli.main(["export", str(bundle.folder), "-o", str(tmp_path / "m.onnx")]) == 2
    said = capsys.readouterr().err
    assert "an export needs onnxscript, which is not installed\n  to do: pip install " in said
    assert "[export]'" in said
    assert cli.main(["export", str(bundle.folder), "-o", str(tmp_path / "m.bin")]) == 2
    assert "name it .onnx" in capsys.readouterr().err


def test_more_networks_than_one_are_refused(bundle: Bundle) -> None:
    network = bundle.trained.networks["machine"]
    two = modelfolder.Trained(
        bundle.trained.method, bundle.trained.settings, {"fan": network, "pump": network}, {}, {}, {}
    )
    with pytest.raises(AuscultError, match="2 networks"):
        scorer(two, 8000, None)


@needs_onnx
@pytest.mark.parametrize("name", ["ae", "os_scl", "glow_aff"])
def test_methods_with_another_form_can_be_exported(name: str, tmp_path: Path) -> None:
    """The rest of the table in docs/deploy.md was made likewise: random weights, windows of a second."""
    settings, samples = small(name), 8000
    if name == "glow_aff":
        settings = settings.model_copy(
            update={"levels": 2, "steps": 1, "hidden": 8}
        )  # each step takes a second to trace
    method = load_method(name)
    shape = Shape(3, 128, 1 + samples // 512, samples)
    torch.manual_seed(0)
    network = method.build(settings, shape)
    randomise(network)
    model = scorer(modelfolder.Trained(method, settings, {"all": network}, {}, {"all": shape}, {}), 16000, None)
    waves = probes(samples, 4)
    with torch.no_grad():
        mel = torch.from_numpy(exact_spectrogram(waves, method.mel(settings), 16000))
        batch = Batch(candidates=torch.ones(4, 3, dtype=torch.bool), wave=torch.from_numpy(waves), mel=mel)
        for norm in (each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)):
            norm.momentum = 1.0
        network.train().embed(batch)  # the statistics of these sounds: with others no score depends on the sound
        expected = network.eval().embed(batch)[1]["native"].double().numpy()
    exporting.write(model, samples, tmp_path / "m.onnx", {})
    assert exporting.difference(tmp_path / "m.onnx", expected, waves) < exporting.TOLERANCE
    if name != "glow_aff":  # whose convolutions have computed weights: docs/deploy.md
        scores = int8_scores(tmp_path / "m.onnx", waves)
        assert np.isfinite(scores).all()
        assert (scores != expected).any(), "something has become int8"
    assert np.ptp(expected) > 100 * exporting.TOLERANCE * max(1, np.abs(expected).max())
