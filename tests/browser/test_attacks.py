"""The page Attacks in Chromium: choose a pair of models, open an image, share the link."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.config import Config
from bench.store import tables
from tests.browser.conftest import MARKS, WAIT_MS, choose, settle

pytestmark = MARKS


def tiles(page: Any) -> list[str]:
    return page.locator('[class*="st-key-tile-pair-"] button').all_inner_texts()


def test_a_pair_of_models_leads_to_images_and_a_link_restores_it(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 1400})
    page.goto(f"{address}/attacks?threat=attack:pgd-linf:16")
    settle(page)
    before = tiles(page)
    assert before
    choose(page, "Made on", "Supervised ViT")
    settle(page)
    assert "via=supervised-vit" in page.url
    found = tiles(page)
    assert found
    assert all(" → " in caption for caption in found)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 900, "nothing scrolls sideways"

    shared = browser.new_context().new_page()
    shared.goto(page.url)
    settle(shared)
    assert tiles(shared) == found

    page.locator('[class*="st-key-tile-pair-"] button').first.click()
    page.wait_for_url("**/samples?*", timeout=WAIT_MS)
    settle(page)
    assert "sample=digits" in page.url


def test_a_pair_is_clicked_in_the_matrix_and_an_image_is_had_as_a_file(
    config: Config, address: str, browser: Any
) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1600}, accept_downloads=True)
    page.goto(f"{address}/attacks?threat=attack:pgd-linf:16")
    settle(page)
    figure = page.locator(".st-key-figure-transfer-matrix")
    plot, n = figure.locator(".nsewdrag").first.bounding_box(), figure.locator(".ytick text").count()
    page.mouse.move(plot["x"] + 1.5 * plot["width"] / n, plot["y"] + 2.5 * plot["height"] / n)
    figure.locator(".hoverlayer text").first.wait_for(state="attached", timeout=WAIT_MS)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**via=*", timeout=WAIT_MS)
    settle(page)
    assert "onto=" in page.url
    kept = tables.read("attack_images", config.results / "attack_images.parquet")["attack_id"].iloc[0]
    page.goto(f"{page.url}&hit={kept.split('/', 3)[3]}")
    settle(page)
    page.get_by_text("Perturbation, ×").first.wait_for(timeout=WAIT_MS)
    with page.expect_download(timeout=WAIT_MS) as download:
        page.locator('[class*="st-key-download-attacked-NPZ"] button').first.click()
    with np.load(download.value.path()) as held:
        assert held["attacked_u8"].shape == held["clean_u8"].shape
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


def test_a_region_is_drawn_and_given_as_parameters(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 2600})
    page.goto(f"{address}/attacks?threats=regions")
    settle(page)
    box = page.locator('[class*="st-key-region-canvas"] .nsewdrag').first.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.7 * box["height"], steps=5)
    page.mouse.up()
    page.get_by_text("of the image may change").wait_for(timeout=WAIT_MS)
    page.get_by_text("As a region of params.yaml").click()
    page.get_by_text("drawn:").first.wait_for(timeout=WAIT_MS)
    said = page.locator("code").first.inner_text()
    assert said.split()[:3] == ["regional:", "runs:", "small:"], "the run of these images, by its name"
    assert "#" in said
    assert page.get_by_role("button", name="Try it on").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 900


def test_a_kind_of_detector_is_chosen_and_stands_in_the_link(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 1800})
    page.goto(f"{address}/attacks?threats=detection")
    settle(page)
    page.get_by_role("radio", name="From noise, 8 bits").click()
    settle(page)
    assert "told=noise%3Au8" in page.url or "told=noise:u8" in page.url
    shown = page.locator(".js-plotly-plot").first
    assert "Difference of logits" in shown.inner_text()
    assert "Random noise" not in shown.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 900, "nothing scrolls sideways"
