"""Class lists come from training clips, and a test clip is measured only against the classes of its own unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auscult.errors import AuscultError
from auscult.training.classes import candidates_of, class_list, class_names, class_scheme, labels_of


def table(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["machine", "unit", "attributes"])


TRAIN = table(
    [
        ("valve", "00", "pat_1"),
        ("fan", "02", ""),
        ("fan", "00", "spd_2_a/b"),
        ("valve", "00", "pat_0"),
        ("fan", "00", ""),
    ]
)


def test_unit_classes() -> None:
    classes = class_list(TRAIN, "unit")
    assert classes == ["fan/00", "fan/02", "valve/00"]
    assert labels_of(TRAIN, "unit", classes).tolist() == [2, 1, 0, 2, 0]
    assert labels_of(TRAIN, "unit", classes).dtype == np.int64


def test_attribute_classes() -> None:
    classes = class_list(TRAIN, "attributes")
    assert classes == ["fan/00/", "fan/00/spd_2_a/b", "fan/02/", "valve/00/pat_0", "valve/00/pat_1"]
    assert [classes[i] for i in labels_of(TRAIN, "attributes", classes)] == class_names(TRAIN, "attributes").tolist()


def test_a_method_may_ask_for_attributes_where_there_are_any() -> None:
    """Names of 2020 have none: what would be one class of unknown attributes per unit is the unit."""
    bare = table([("fan", "00", ""), ("fan", "02", "")])
    assert class_scheme(TRAIN, "attributes", "unit") == "attributes"
    assert class_scheme(bare, "attributes", "unit") == "unit"
    for index in (TRAIN, bare):
        for asked in ("", "profile"):
            assert class_scheme(index, asked, "unit") == "unit"
            assert class_scheme(index, asked, "attributes") == "attributes"


@pytest.mark.parametrize("scheme", ["unit", "attributes"])
def test_candidates_are_the_classes_of_the_own_unit(scheme: str) -> None:
    classes = class_list(TRAIN, scheme)  # type: ignore[arg-type]
    tested = table([("fan", "02", ""), ("valve", "00", ""), ("fan", "00", "hidden")])
    mask = candidates_of(tested, classes)
    assert mask.dtype == bool
    for row, (machine, unit) in zip(mask, [("fan", "02"), ("valve", "00"), ("fan", "00")], strict=True):
        expected = [(name + "/").startswith(f"{machine}/{unit}/") for name in classes]
        assert row.tolist() == expected


def test_candidates_do_not_look_at_attributes() -> None:
    classes = class_list(TRAIN, "attributes")
    one, other = table([("fan", "00", "")]), table([("fan", "00", "spd_2_a/b")])
    assert np.array_equal(candidates_of(one, classes), candidates_of(other, classes))


def test_unknown_units_are_named_all_at_once() -> None:
    tested = table([("fan", "00", ""), ("fan", "04", ""), ("pump", "00", "")])
    with pytest.raises(AuscultError, match=r"2 unit\(s\)") as caught:
        candidates_of(tested, class_list(TRAIN, "unit"))
    assert "fan/04" in str(caught.value)
    assert "pump/00" in str(caught.value)


def test_unit_names_that_begin_alike_are_not_confused() -> None:
    classes = class_list(table([("fan", "0", "x"), ("fan", "00", "x"), ("fan0", "0", "x")]), "attributes")
    assert candidates_of(table([("fan", "0", "")]), classes).tolist() == [[True, False, False]]
