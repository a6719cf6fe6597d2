"""The page Map in Chromium: draw around images, pick one, share the link."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from tests.browser.conftest import MARKS, WAIT_MS, choose, settle

pytestmark = MARKS

A_POINT = """() => {
  const plot = document.querySelector('.js-plotly-plot'), {xaxis, yaxis} = plot._fullLayout;
  const box = plot.getBoundingClientRect(), traces = plot._fullData.filter((one) => one.customdata);
  const at = (trace, i) => [xaxis._offset + xaxis.l2p(trace.x[i]), yaxis._offset + yaxis.l2p(trace.y[i])];
  const all = traces.flatMap((trace) => trace.customdata.map((id, i) => [id, ...at(trace, i)]));
  const apart = ([a, x, y]) => Math.min(...all.filter(([b]) => b !== a).map(([, u, v]) => Math.hypot(x - u, y - v)));
  const [id, x, y] = all.reduce((best, one) => (apart(one) > apart(best) ? one : best));
  return [id, box.left + x, box.top + y];
}"""
"""The image that stands most alone on the first map, and where it is in the window."""


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
    plots(page).first.scroll_into_view_if_needed()
    plots(page).first.hover()
    page.locator('.modebar-btn[data-title="Pan"]').first.click()
    sample, x, y = page.evaluate(A_POINT)
    assert "picked=" not in page.url
    page.mouse.click(x, y)
    page.wait_for_url(lambda url: f"picked={sample}" in unquote(url), timeout=WAIT_MS)
    settle(page)
    assert page.locator(f'[class*="st-key-tile-picked"] [alt^="image {sample},"]').count() == 1
    assert tiles(page, "map") == []

    page.locator('[class*="st-key-tile-near"] button').first.click()
    page.get_by_text("Every model's answer").wait_for(timeout=WAIT_MS)
    page.close()
