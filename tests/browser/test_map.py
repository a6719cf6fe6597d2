"""The page Map in Chromium: draw around images, pick one, share the link."""

from __future__ import annotations

from typing import Any

from tests.browser.conftest import MARKS, WAIT_MS, choose, settle

pytestmark = MARKS


def tiles(page: Any, grid: str) -> list[str]:
    return page.locator(f'[class*="st-key-tile-{grid}"] button').all_inner_texts()


def plots(page: Any) -> Any:
    return page.locator('[data-testid="stPlotlyChart"] .nsewdrag')


def test_images_that_are_drawn_around_are_shown_and_one_is_picked(address: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1400})
    page.goto(f"{address}/map?encoder=mae-vit&second=supervised-cnn")
    settle(page)
    page.get_by_text("Draw around images of Digits").wait_for(timeout=WAIT_MS)
    assert plots(page).count() == 2
    assert tiles(page, "map") == []

    plots(page).first.scroll_into_view_if_needed()
    box = plots(page).first.bounding_box()
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    page.get_by_role("button", name="Clear the selection").wait_for(timeout=WAIT_MS)
    settle(page)
    assert len(tiles(page, "map")) == 20

    near = {side: tiles(page, f"near-{side}") for side in ("mae-vit", "supervised-cnn")}
    assert all(len(captions) == 3 for captions in near.values())
    shared = browser.new_context().new_page()
    shared.goto(page.url)
    settle(shared)
    assert {side: tiles(shared, f"near-{side}") for side in near} == near
    assert tiles(shared, "map") == []  # what was drawn around stays in its session

    choose(page, "Encoder", "Raw pixels")
    page.wait_for_url("**encoder=pixels**")
    assert len(tiles(page, "map")) == 20
    page.get_by_role("button", name="Clear the selection").click()
    page.get_by_text("Draw around images of Digits").wait_for(timeout=WAIT_MS)
    settle(page)
    page.locator('[class*="st-key-tile-near"] button').first.click()
    page.get_by_text("Every model's answer").wait_for(timeout=WAIT_MS)
    page.close()
