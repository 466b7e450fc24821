"""What every page must fulfil: a test module derives a class from `Accessible` and has a fixture `driver` at its page."""

from __future__ import annotations

from typing import Any

import pytest

from support.browser import contrasts, unreadable


class Accessible:
    def test_it_can_be_read_without_eyes_or_mouse(self, driver: Any) -> None:
        assert unreadable(driver) == []

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_text_stands_out(self, driver: Any, theme: str) -> None:
        ratios = contrasts(driver, theme)
        assert len(ratios) == 12
        assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
