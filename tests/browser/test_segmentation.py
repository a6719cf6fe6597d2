"""The page Segmentation in Chromium: choose another pair, share the link."""

from __future__ import annotations

from typing import Any

from tests.browser.conftest import MARKS, choose, settle

pytestmark = MARKS


def captions(page: Any) -> list[str]:
    return page.locator(".strip figcaption").all_inner_texts()


def test_another_pair_has_its_own_strip_and_a_link_restores_it(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 1400})
    page.goto(f"{address}/segmentation")
    settle(page)
    before = captions(page)
    assert before[0] == "Clean image"
    sources = [one.get_attribute("src") for one in page.locator(".strip img").all()]
    choose(page, "Image and target", "1 with the mask of 0")
    settle(page)
    assert "drawn=asma" in page.url
    assert [one.get_attribute("src") for one in page.locator(".strip img").all()] != sources
    assert page.evaluate("document.documentElement.scrollWidth") <= 900, "nothing scrolls sideways"

    shared = browser.new_context().new_page()
    shared.goto(page.url)
    settle(shared)
    assert captions(shared) == captions(page)
