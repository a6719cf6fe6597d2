"""The page Collisions in Chromium: choose a network and an image, see what was made of it, share the link."""

from __future__ import annotations

from typing import Any

from tests.browser.conftest import MARKS, choose, settle

pytestmark = MARKS


def seen(page: Any) -> list[str]:
    """The captions of the pictures, and what is said of the logits below them."""
    below = page.get_by_text("Logits differ by at most").inner_text()
    return [*page.locator(".strip figcaption").all_inner_texts(), below]


def test_a_network_and_an_image_are_chosen_and_a_link_restores_both(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 1800})
    page.goto(f"{address}/collisions")
    settle(page)
    assert [caption.split(",")[0] for caption in seen(page)[:4]] == ["Image", "Target", "Made", "Difference"]
    before = page.locator(".strip img").first.get_attribute("src")
    choose(page, "Network", "Supervised CNN")
    page.get_by_role("combobox", name="Image").first.click()
    page.get_by_role("option").nth(2).click()
    settle(page)
    assert "collided=supervised-cnn" in page.url
    assert "twin=digits" in page.url
    assert page.locator(".strip img").first.get_attribute("src") != before
    assert page.evaluate("document.documentElement.scrollWidth") <= 900, "nothing scrolls sideways"

    shared = browser.new_context().new_page()
    shared.goto(page.url)
    settle(shared)
    assert seen(shared) == seen(page)
    chosen = [one.locator(".strip img").first.get_attribute("src") for one in (page, shared)]
    assert chosen[0] == chosen[1]
