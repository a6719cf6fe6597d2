"""From two annotators at their keyboards to other accuracies on the dashboard: annotate, refine, commit, reproduce."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.relabel import events
from bench.store import tables
from tests.browser.conftest import CHROMIUM, MARKS, WAIT_MS, browser, serving, settle
from tests.browser.test_annotate import ALL_SENT, WATCH, at, labels, press, sent, sign_in
from tests.pipeline.project import Project

pytestmark = [pytest.mark.pipeline, *MARKS]
__all__ = ["CHROMIUM", "browser"]

N = 10
DATASET = "optdigits"


def opened(browser: Any, url: str, at: str) -> Any:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(f"{url}/{at}")
    return page


def annotate(browser: Any, url: str, name: str, choose: Any) -> dict[str, int]:
    """N images by keyboard: image -> the class said yes to. `choose(i)` is the place of the label that is ticked."""
    page = opened(browser, url, f"annotate?dataset={DATASET}&queue=random")
    sign_in(page, name, "1234")
    page.locator(".card").first.wait_for(timeout=WAIT_MS)
    settle(page)
    said = {}
    for i in range(N):
        image, shown, place = at(page), labels(page), choose(i)
        press(page, str(place + 1), "Enter")
        page.wait_for_function("image => window.shown.at(-1) !== image", arg=image, timeout=WAIT_MS)
        said[image] = shown[place]
    sent(page)
    page.context.close()
    return said


def test_two_annotators_change_the_benchmark(project: Project, browser: Any) -> None:
    before = tables.read("metrics", project.root / "results" / "metrics.parquet")
    assert before.query("dataset == @DATASET and label_source == 'consensus'").empty
    with serving(project.root) as server:
        ada = annotate(browser, server.url, "Ada", lambda _: 0)
        ben = annotate(browser, server.url, "Ben", lambda i: i % 2)
        assert list(ada) == list(ben), "both have the same order"
        disputed = [image for image in ada if ada[image] != ben[image]]
        assert len(disputed) == N // 2

        page = opened(browser, server.url, f"relabelled?dataset={DATASET}&about=pending")
        settle(page)
        assert page.get_by_text(f"What 2 annotators said of {N} images is not in these results yet").count() == 1
        assert page.get_by_text(f"{len(disputed)} stay disputed").count() == 1

        page = opened(browser, server.url, f"agreement?dataset={DATASET}&agree=refine")
        sign_in(page, "Ada", "1234")
        page.locator(".card").first.wait_for(timeout=WAIT_MS)
        settle(page)
        refined = {}
        for _ in disputed:
            image, shown = at(page), labels(page)
            wrong = shown.index(ada[image])  # Ben was right: take Ada's label away
            press(page, str(wrong + 1), str(wrong + 1), "Enter")
            page.wait_for_function(
                "image => window.shown.at(-1) !== image || !document.querySelector('.card')", arg=image
            )
            refined[image] = ben[image]
            page.wait_for_function(ALL_SENT, timeout=WAIT_MS)
        assert set(refined) == set(disputed)

        said = project.bench("annotate", "commit").stdout
        assert "2 files" in said or "3 files" in said
        stages = project.repro()
        assert stages[0] == "consensus"
        assert "database" in stages
        assert not [one for one in stages if one.startswith(("train", "predict"))]

        expected = {**ada, **refined}
        rows = tables.read("labels", project.root / "results" / "labels.parquet")
        mine = rows.loc[(rows["source"] == "consensus") & rows["sample_id"].isin(expected)]
        assert dict(zip(mine["sample_id"], mine["class_id"], strict=True)) == expected
        decided = tables.read("consensus", project.root / "results" / "consensus.parquet")
        assert set(decided.loc[decided["sample_id"].isin(disputed), "method"]) == {"refined"}
        frame = events.read(project.root / "data" / events.FOLDER).query("kind == 'human'")
        assert frame.groupby("stage")["submission"].nunique().to_dict() == {"annotate": 2 * N, "refine": len(disputed)}

        after = tables.read("metrics", project.root / "results" / "metrics.parquet")
        after = after.query("dataset == @DATASET and subset == 'all' and condition == 'clean'")
        both = pd.merge(*(after.query(f"metric == '{metric}'") for metric in ("top1", "any_of")), on="model")
        changed = both.loc[both["value_x"] != both["value_y"]]
        assert len(changed), "labels that are others make accuracies that are others"

        page = opened(browser, server.url, f"relabelled?dataset={DATASET}")
        settle(page)
        assert page.get_by_text(f"Of {N} annotated images").count() == 1
        kept = sum(expected[one] == label for one, label in _given(project).items() if one in expected)
        assert page.get_by_text(f"{kept} keep exactly their given label").count() == 1
        page = opened(browser, server.url, f"overview?dataset={DATASET}&labels=consensus")
        settle(page)
        text = page.locator('[data-testid="stMain"]').inner_text()
        figures = {f"{100 * value:.1f} %" for value in changed["value_y"]}
        assert any(figure in text for figure in figures)


def _given(project: Project) -> dict[str, int]:
    samples = tables.read("samples", project.root / "results" / "samples.parquet")
    mine = samples.loc[samples["dataset"] == DATASET]
    return dict(zip(mine["sample_id"], mine["label"], strict=True))
