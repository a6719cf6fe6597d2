"""A reader's way through the dashboard in Chromium: filter, image, shared link, download."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.config import Config
from tests.browser.conftest import MARKS, WAIT_MS, choose, settle

pytestmark = MARKS


def tiles(page: Any) -> list[str]:
    return page.locator('[class*="st-key-tile-grid"] button').all_inner_texts()


def test_from_overview_to_an_image_and_back_from_its_link(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.goto(address)
    settle(page)
    assert page.get_by_role("heading", name="How accurate is each model, and where?").count() == 1

    choose(page, "Set of images", "Digits mosaic (composed)")
    page.wait_for_url("**dataset=digits-mosaic**")
    choose(page, "Families of models", "Self-supervised")
    page.keyboard.press("Escape")
    page.wait_for_url("**families=ssl**")

    page.get_by_role("link", name="Samples").click()
    page.get_by_role("heading", name="Which images fool which models?").wait_for(timeout=WAIT_MS)
    settle(page)
    page.wait_for_url("**/samples?**dataset=digits-mosaic**")
    assert "families=ssl" in page.url
    choose(page, "Order", "Fewest right first")
    shown = tiles(page)
    assert len(shown) == 48
    assert all(caption.endswith("/2") for caption in shown)

    grid = page.url
    page.locator('[class*="st-key-tile-grid"] button').first.click()
    page.get_by_text("Every model's answer").wait_for(timeout=WAIT_MS)
    settle(page)
    page.wait_for_url("**sample=digits-mosaic**")
    heading = page.locator("h1").inner_text()
    picture = page.locator('[data-testid="stHtml"] img').first.get_attribute("src")

    other = browser.new_context().new_page()
    other.goto(page.url)
    settle(other)
    assert other.locator("h1").inner_text() == heading
    assert other.locator('[data-testid="stHtml"] img').first.get_attribute("src") == picture
    assert other.url == page.url
    other.goto(grid)
    settle(other)
    assert tiles(other) == shown

    page.go_back()
    page.get_by_role("heading", name="Which images fool which models?").wait_for(timeout=WAIT_MS)
    settle(page)
    assert tiles(page) == shown


def test_a_download_holds_what_is_shown(address: str, browser: Any, config: Config) -> None:
    page = browser.new_context(accept_downloads=True).new_page()
    page.goto(f"{address}/replication?against=optdigits&families=ssl&rule=R0")
    settle(page)
    found = {}
    for kind in ("CSV", "Parquet"):
        with page.expect_download(timeout=WAIT_MS) as waiting:
            page.locator(
                f".st-key-download-gaps-digits-optdigits-top1-{kind.lower()} button >> visible=true"
            ).last.click()
        found[kind] = Path(waiting.value.path()).read_bytes()
        assert waiting.value.suggested_filename == f"gaps-digits-optdigits-top1.{kind.lower()}"
    csv, parquet = pd.read_csv(io.BytesIO(found["CSV"])), pd.read_parquet(io.BytesIO(found["Parquet"]))
    assert csv["Model"].tolist() == parquet["Model"].tolist() == ["MAE ViT", "SimCLR CNN"]
    assert csv["Gap, pp"].tolist() == pytest.approx([15.0, 15.0])


def test_a_rule_and_its_coverage_are_in_the_link(address: str, browser: Any) -> None:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.goto(f"{address}/replication?dataset=digits&against=optdigits")
    settle(page)
    page.get_by_text("Same coverage", exact=True).first.click()
    page.wait_for_url("**rule=R2**")
    settle(page)
    page.get_by_role("slider").first.press("ArrowRight")
    page.wait_for_url("**coverage=55**")
    settle(page)
    sentence = page.get_by_text("On the surest 55 % of each set, the gap is smaller")
    said = sentence.first.inner_text()
    shared = browser.new_context().new_page()
    shared.goto(page.url)
    settle(shared)
    assert shared.url == page.url
    assert shared.get_by_text("On the surest 55 % of each set, the gap is smaller").first.inner_text() == said


def test_the_contrast_is_followed_from_its_finding_to_a_corruption(address: str, browser: Any) -> None:
    """A reader's way through the page SSL, and what a colleague sees who gets the link."""
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.goto(f"{address}/ssl?dataset=digits")
    settle(page)
    assert "self-supervised ones are" in page.locator("h5").first.inner_text()
    page.get_by_text("Images both get right when clean", exact=True).first.click()
    page.wait_for_url("**contrast=both_right**")
    page.get_by_text("Corruption", exact=True).first.click()
    page.wait_for_url("**ssl=corruption**")
    page.get_by_role("heading", name="Corruption error").wait_for(timeout=WAIT_MS)
    page.get_by_text("Gaussian blur", exact=True).first.click()
    settle(page)
    link = page.url
    other = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    other.goto(link)
    settle(other)
    assert other.get_by_role("heading", name="Corruption error").count() == 1
    assert other.url == link
    other.get_by_text("The contrast", exact=True).first.click()
    other.wait_for_url(lambda url: "ssl=corruption" not in url)
    other.get_by_role("heading", name="Pair by pair").wait_for(timeout=WAIT_MS)
    assert "contrast=both_right" in other.url


def test_a_page_opens_at_its_own_address(address: str, browser: Any) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{address}/ssl?ssl=backbones")
    settle(page)
    assert "Are self-supervised models" in page.locator("h1").inner_text()
    assert page.locator('[data-testid="stPlotlyChart"]').count() == 2


def test_a_link_keeps_the_models_that_were_picked(address: str, browser: Any) -> None:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.goto(f"{address}/filter?models=@family:random,pixels&wrong=pixels&part=table")
    settle(page)
    assert "models=" in page.url
    assert "pixels" in page.url
    picked = page.locator('[data-testid="stMultiSelect"]').nth(1).inner_text()
    assert "All of family Random control (2)" in picked
    assert "Raw pixels" in picked
    assert "9 of 60 images" in page.locator("h5").first.inner_text()

    choose(page, "Wrong by", "Any or no model")
    page.wait_for_url(lambda url: "wrong=" not in url)
    assert "60 of 60 images" in page.locator("h5").first.inner_text()
    shared = browser.new_context().new_page()
    shared.goto(page.url)
    settle(shared)
    assert shared.url == page.url


def test_a_changed_filter_redraws_the_same_figure(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 1000})
    page.goto(f"{address}/filter?dataset=digits")
    settle(page)
    canvas = page.locator(".stBidiComponent canvas")
    assert canvas.get_attribute("role") == "img"
    assert "on 60 images" in canvas.get_attribute("aria-label")
    assert canvas.get_attribute("data-n") == "60"
    same, before = canvas.element_handle(), canvas.evaluate("(one) => one.toDataURL()")

    choose(page, "Wrong by", "Raw pixels")
    assert same.evaluate("(one) => one.isConnected")
    assert canvas.get_attribute("data-n") == "9"
    assert canvas.evaluate("(one) => one.toDataURL()") != before

    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] / 2, "y": 20})
    tip = page.locator(".stBidiComponent .tip")
    best = page.locator("h5 strong").nth(1).inner_text()
    assert tip.inner_text().splitlines()[0] == best
    assert "n = 9" in tip.inner_text()
    page.mouse.move(2, 2)
    assert tip.is_hidden()
    canvas.focus()
    page.keyboard.press("Home")
    assert tip.inner_text().splitlines()[0] == best
    page.keyboard.press("ArrowDown")
    assert tip.inner_text().splitlines()[0] != best
    page.close()


@pytest.mark.parametrize("path", ["/", "/replication", "/ssl", "/samples", "/relabel", "/snapshot", "/filter", "/map"])
def test_no_page_scrolls_sideways_at_900_pixels(address: str, browser: Any, path: str) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 1000})
    page.goto(address + path)
    settle(page)
    main = "document.querySelector('[data-testid=\"stMain\"]')"
    assert page.evaluate(f"{main}.scrollWidth <= {main}.clientWidth + 2")
    page.close()
