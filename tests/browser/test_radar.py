"""The page Radar in Chromium: choose victim and sequence, step the player, share the link."""

from __future__ import annotations

from typing import Any

from tests.browser.conftest import MARKS, choose, settle

pytestmark = MARKS


def said(page: Any) -> str:
    """What the player says of its frame."""
    return page.get_by_text("Simulated. Frame").inner_text()


def test_the_player_is_stepped_and_a_link_restores_it(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 1400})
    page.goto(f"{address}/radar")
    settle(page)
    assert said(page) == "Simulated. Frame 1 of 8 is action; the attack may not change it."
    choose(page, "Victim", "CNN-LSTM")
    choose(page, "Sequence", "pull (s09-1)")
    for _ in range(5):
        page.get_by_role("button", name="Next").click()
        settle(page)
    assert said(page) == "Simulated. Frame 6 of 8 is padding; the attack may change it."
    for part in ("victim=cnnlstm-A", "sequence=s09-1", "frame=6"):
        assert part in page.url
    assert page.get_by_text("impossible", exact=True).count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 900, "nothing scrolls sideways"

    shared = browser.new_context().new_page()
    shared.goto(page.url)
    settle(shared)
    assert said(shared) == said(page)
    assert shared.get_by_role("combobox", name="Victim").input_value() == "CNN-LSTM"
    shared.get_by_role("button", name="Back").click()
    settle(shared)
    assert said(shared) == "Simulated. Frame 5 of 8 is action; the attack may not change it."
    page.go_back()
    settle(page)
    assert "Frame 5 of 8" in said(page)
