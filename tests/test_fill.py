"""The fill rule itself, against the numbers stored with it: every network test stands on it."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from support.fill import filled, golden, kind_of, uniform


def test_numbers_and_kinds() -> None:
    stored = golden("fill_rule")
    assert zlib.crc32(stored["name"].encode()) == stored["crc32"]
    np.testing.assert_array_equal(uniform(stored["name"], 8), stored["u01_first8"])
    np.testing.assert_array_equal(filled(stored["name"], (2, 3), "w"), stored["w_2x3"])
    np.testing.assert_array_equal(filled("demo/bn.weight", (4,), "nw"), stored["nw_4"])
    np.testing.assert_array_equal(filled("demo/bn.running_var", (4,), "rv"), stored["rv_4"])


@pytest.mark.parametrize("name", ["mfn", "tgram", "tfgram", "osscl_tfst", "stgram", "ae_idnn"])
def test_kind_follows_from_name(name: str) -> None:
    manifests = [value for key, value in golden(name).items() if key.endswith("manifest")]
    assert manifests
    for tensor_name, _, kind in (row for manifest in manifests for row in manifest):
        assert kind_of(tensor_name.split("/")[1]) == kind
