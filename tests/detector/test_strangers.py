"""A bundle by anybody: whatever its files and settings hold, it is refused with one message or scores as its content says, in
bounded time and memory."""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auscult.detector import bundle
from auscult.detector.bundle import Bundle
from auscult.detector.manifest import MOST_BYTES, MOST_ENTRIES, write_manifest
from auscult.detector.reading import plain_yaml
from auscult.errors import AuscultError
from support.trees import noise, write

FILES = (
    "bundle.yaml",
    "model/config.yaml",
    "model/history.csv",
    "model/weights.safetensors",
    "normal.npy",
    "reference.npy",
)
METHODS: dict[str, dict[str, Any]] = {
    "spectral_knn": {},
    "glow_aff": {"epochs": 1, "levels": 2, "steps": 1, "hidden": 8},
}
SECONDS, MEGABYTES = 10, 500
few = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """A bundle with embeddings, and one with a network."""
    folder, rng = tmp_path_factory.mktemp("strangers"), np.random.default_rng(0)
    for number in range(12):
        write(folder / "normal" / f"{number}.wav", noise(rng, 1.0, 300.0))
    return {
        method: bundle.fit(folder / "normal", folder / method, bundle.FitSettings(method, values))
        for method, values in METHODS.items()
    }


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "bundle"


def sign(folder: Path, facts: Any) -> None:
    """Write bundle.yaml with right digests, as somebody with bad intentions would."""
    if isinstance(facts, dict) and isinstance(facts.get("files"), dict):
        for name in facts["files"]:
            if isinstance(name, str) and (folder / name).is_file():
                facts["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    text = yaml.safe_dump(facts, sort_keys=False)
    (folder / "bundle.yaml").write_text(f"{text}sha256: {hashlib.sha256(text.encode()).hexdigest()}\n")


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = yaml.safe_load((folder / "bundle.yaml").read_text())
    del facts["sha256"]
    return facts


def copied(original: Bundle, scratch: Path) -> Path:
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(original.folder, scratch)
    return scratch


def judged(folder: Path, window: int) -> np.ndarray | None:
    """Scores, or None where the bundle is refused; never anything else, and within the limits."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    waves = np.random.default_rng(5).standard_normal((2, window)).astype(np.float32) * np.float32(0.1)
    found, said = None, ""
    try:
        loaded = bundle.load(folder)
        # Of a window that is another one now: the bundle says so, and is asked for no other.
        found = loaded.scores(waves[:, : loaded.window]) if loaded.window <= window else np.zeros(1)
    except AuscultError as error:
        said = str(error)
    assert len(said) < 5000
    assert found is None or np.isfinite(found).all()
    assert time.monotonic() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024 * MEGABYTES
    return found


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a document, the document's own, (), included."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from paths_in(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from paths_in(value[0], (*path, 0))


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    inside = document
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return document


HOSTILE = st.one_of(
    st.sampled_from([0, -1, 1, 7, 10**9, 10**18, 10**400, math.nan, math.inf, -0.5, 1e300, "", "all", "2001-99-99", "x" * 5000]),
    st.sampled_from([None, True, [], {}, [1] * 2000, ["max"] * 900, {"a": 1}, [[[[[[[[[[[[[[1]]]]]]]]]]]]]]]),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- by chance
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["bundle.yaml", "model/config.yaml"])
def test_any_value_of_any_setting(made: dict[str, Bundle], scratch: Path, method: str, name: str) -> None:
    original = made[method]
    places = [
        path
        for path in paths_in(facts_of(original.folder) if name == "bundle.yaml" else load_config(original.folder))
        if path[:2] != ("training", "sha256")
    ]

    @few
    @given(st.sampled_from(places), HOSTILE)
    def check(place: tuple[Any, ...], value: Any) -> None:
        folder = copied(original, scratch)
        facts = facts_of(folder)
        if name == "bundle.yaml":
            sign(folder, with_value(facts, place, value))
        else:
            config = with_value(load_config(folder), place, value)
            (folder / name).write_text(yaml.safe_dump(config, sort_keys=False))
            sign(folder, facts)
        judged(folder, original.window)

    check()


def load_config(folder: Path) -> Any:
    return yaml.safe_load((folder / "model" / "config.yaml").read_text())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("signed", [False, True])
def test_any_bytes_in_any_file(made: dict[str, Bundle], scratch: Path, method: str, signed: bool) -> None:
    """Refused, or as before; with digests made right, refused or finite."""
    original = made[method]
    waves = np.random.default_rng(5).standard_normal((2, original.window)).astype(np.float32) * np.float32(0.1)
    right = original.scores(waves)
    files = [name for name in FILES if (original.folder / name).is_file()]

    @few
    @given(st.sampled_from(files), st.floats(0, 1), st.binary(max_size=12), st.integers(0, 40), st.booleans())
    def check(name: str, place: float, new: bytes, gone: int, cut: bool) -> None:
        folder = copied(original, scratch)
        content = (folder / name).read_bytes()
        at = int(place * len(content))
        changed = content[:at] + new + (b"" if cut else content[at + gone :])
        (folder / name).write_bytes(changed)
        if signed and name != "bundle.yaml":
            sign(folder, facts_of(original.folder))
        found = judged(folder, original.window)
        if found is not None and (changed == content or not signed):
            np.testing.assert_array_equal(found, right)

    check()


# ----------------------------------------------------------------------------------------------------------- by intention
@pytest.mark.parametrize("name", FILES)
def test_only_regular_files_of_bounded_size_are_opened(made: dict[str, Bundle], scratch: Path, name: str) -> None:
    original = made["spectral_knn"]

    def refused(make: Callable[[Path], object]) -> None:
        folder = copied(original, scratch)
        (folder / name).unlink()
        make(folder / name)
        assert judged(folder, original.window) is None

    refused(lambda path: os.mkfifo(path))
    refused(lambda path: path.symlink_to("/dev/zero"))
    refused(lambda path: path.symlink_to(original.folder / name))
    refused(lambda path: path.mkdir())
    refused(lambda path: path.touch())

    def huge(path: Path) -> None:
        with open(path, "wb") as stream:
            stream.truncate(MOST_BYTES[name] + 1)

    refused(huge)


def test_a_folder_of_a_bundle_is_no_link(made: dict[str, Bundle], scratch: Path) -> None:
    folder = copied(made["spectral_knn"], scratch)
    shutil.rmtree(folder / "model")
    (folder / "model").symlink_to(made["spectral_knn"].folder / "model")
    assert judged(folder, 16000) is None


BOMBS = {
    "aliases": b"a: &a [1,1]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 120)),
    "merges": b"a: &a {k: 1}\nb: {<<: *a}\n",
    "depth": b"[" * 10**6,
    "mappings": b"{a: " * 10**5,
    "many": b"- 1\n" * (MOST_ENTRIES + 1),
    "digits": b"a: " + b"9" * 10**6,
    "sexagesimal": b"a: 1" + b":59" * 10**5,
    "tags": b"a: !!python/object/apply:os.system ['true']\n",
    "binary": b"a: \x00\xff\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_stands_for_more_than_it_is(made: dict[str, Bundle], scratch: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"YAML|it holds|nested"):
        plain_yaml(BOMBS[name], MOST_ENTRIES)
    folder = copied(made["spectral_knn"], scratch)
    (folder / "model" / "config.yaml").write_bytes(BOMBS[name])
    sign(folder, facts_of(folder))
    assert judged(folder, 16000) is None
    text = BOMBS[name]
    (folder / "bundle.yaml").write_bytes(
        text + b"\nsha256: " + hashlib.sha256(text + b"\n").hexdigest().encode() + b"\n"
    )
    assert judged(folder, 16000) is None


def test_names_of_recordings_are_kept_whatever_they_are(made: dict[str, Bundle], scratch: Path) -> None:
    """Bytes that are no UTF-8, and letters that YAML escapes."""
    folder = copied(made["spectral_knn"], scratch)
    facts = facts_of(folder)
    names = [
        "p\udcfcmpe.wav",
        "a\nb.wav",
        "\x07\x85\u2028\uffff\U0001f600.wav",
        "2024-01-01",
        "<<",
        "=",
        "1e3",
        "\x7f",
        "null",
    ]
    facts["training"]["sha256"] = dict.fromkeys(names, "0")
    write_manifest(folder / "bundle.yaml", facts)
    assert list(bundle.load(folder).facts["training"]["sha256"]) == ["p\\udcfcmpe.wav", *names[1:]]


def test_weights_that_training_gave_their_size(made: dict[str, Bundle], tmp_path: Path) -> None:
    """The mixtures of `sc_adacos` are empty before it."""
    rng = np.random.default_rng(0)
    for number in range(12):
        write(tmp_path / "normal" / "ab"[number % 2] / f"{number}.wav", noise(rng, 1.0, 300.0 + 600 * (number % 2)))
    values = {"epochs": 1, "sub_clusters": [1, 2]}
    fitted = bundle.fit(tmp_path / "normal", tmp_path / "b", bundle.FitSettings("sc_adacos", values))
    assert np.isfinite(fitted.normal).all()


def test_plain_yaml_reads_what_is_written() -> None:
    facts = {
        "a": [1, 2.5, None, True],
        "b": {"c": "2024-01-01", "d": "<<", "e": "é\n"},
        "f": 1e-05,
        "g": math.inf,
        "h": "=",
    }
    assert plain_yaml(yaml.safe_dump(facts, allow_unicode=True).encode(), 100) == facts


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("networks", "machine", "shape", "mels"), 10**9),
        (("networks", "machine", "shape", "frames"), 10**9),
        (("networks", "machine", "shape", "classes"), 10**9),
        (("networks", "machine", "shape", "samples"), 10**9),
        (("settings", "hidden"), 10**9),
        (("settings", "levels"), 10**9),
        (("settings", "steps"), 10**9),
        (("settings", "squeeze"), 10**9),
        (("settings", "frontend"), "no front-end"),
        (("networks", "machine", "classes"), ["a", "b"]),
    ],
)
def test_sizes_that_the_weights_do_not_have(
    made: dict[str, Bundle], scratch: Path, place: tuple[str, ...], value: Any
) -> None:
    """Nothing is built of them."""
    folder = copied(made["glow_aff"], scratch)
    config = with_value(load_config(folder), place, value)
    (folder / "model" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    sign(folder, facts_of(folder))
    assert judged(folder, 16000) is None


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "shape", ["(1000000000, 384)", "(12, 383)", "(12, -1)", "(12,)", "(0, 10**9)", "(" * 90, "(True, 384)"]
)
def test_arrays_of_another_size_than_they_say(made: dict[str, Bundle], scratch: Path, shape: str) -> None:
    folder = copied(made["spectral_knn"], scratch)
    content = (folder / "reference.npy").read_bytes()[128:]
    (folder / "reference.npy").write_bytes(header(shape) + content)
    sign(folder, facts_of(folder))
    assert judged(folder, 16000) is None
    (folder / "reference.npy").write_bytes(header("(12, 384)") + content)
    sign(folder, facts_of(folder))
    assert judged(folder, 16000) is not None, "the test itself is right"


def test_what_would_fail_in_the_middle_of_the_work_is_found_before(made: dict[str, Bundle], scratch: Path) -> None:
    """Embeddings one column short, weights that are no numbers, weights of another shape."""
    from safetensors.numpy import load_file, save_file

    folder = copied(made["spectral_knn"], scratch)
    np.save(folder / "reference.npy", np.load(folder / "reference.npy")[:, :-1])
    sign(folder, facts_of(folder))
    with pytest.raises(AuscultError, match="384 dimensions, and those of the normal sound 383"):
        bundle.load(folder)
    for change, words in (
        (lambda value: np.full_like(value, np.nan), "no finite score"),
        (lambda value: value[:-1], "do not fit"),
        (lambda value: value.astype(np.float64), "do not fit"),
    ):
        folder = copied(made["spectral_knn"], scratch)
        path = folder / "model" / "weights.safetensors"
        save_file({name: change(value) for name, value in load_file(path).items()}, path)
        sign(folder, facts_of(folder))
        with pytest.raises(AuscultError, match=words):
            bundle.load(folder)


@pytest.mark.parametrize(
    "text", [json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}), "[1]", "{" * 10**5]
)
def test_headers_of_weights(made: dict[str, Bundle], scratch: Path, text: str) -> None:
    for length in (len(text), 10**15):
        folder = copied(made["spectral_knn"], scratch)
        (folder / "model" / "weights.safetensors").write_bytes(length.to_bytes(8, "little") + text.encode() + bytes(4))
        sign(folder, facts_of(folder))
        assert judged(folder, 16000) is None
