"""How long 20 annotators at work at once wait for the next image, in Chromium against a real server on this machine.

10,000 made-up pictures with 20 proposed labels each of 1,000 classes, each label with five examples, in a synthetic
database: as in a relabelling of ImageNetV2. Every annotator is a browser context of its own that signs in by name,
thinks THINKING seconds of an image, ticks a label, looks at both pages of labels and saves with Enter. Timed is, in the
browser, from that Enter (the time of the event) to after the frame that shows the next image, its picture decoded; and
to the server's acknowledgement. Chromium, 20 pages of it, and the server share the machine. In the end the database
must hold exactly what was saved.
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import config as configuration
from bench.relabel import votes
from bench.store import database
from benchmarks import Targets, beside, browser, met

ANNOTATORS, EACH, THINKING = 20, 15, 5.0
"""People at work, images that each of them does, and seconds that each of them thinks of an image."""
IMAGES, CLASSES, PROPOSED, SIDE = 10_000, 1_000, 20, 160
TARGETS: Targets = {"shown_ms": ("<=", 200)}
FRONT = ["--disable-renderer-backgrounding", "--disable-background-timer-throttling"]
FRONT += ["--disable-backgrounding-occluded-windows"]
"""Every page is as if it were in front, as it is for each annotator."""
WATCH = """
  window.pressed = 0; window.shown = []; window.acknowledged = []; window.blank = 0; window.saved = 0;
  addEventListener('keydown', (event) => { if (event.key === 'Enter') window.pressed = event.timeStamp; }, true);
  document.addEventListener('image-shown', (event) => {
    const from = (window.saved = window.pressed), host = event.composedPath()[0].getRootNode().host ?? event.target;
    requestAnimationFrame(() => setTimeout(() => {
      const picture = host.shadowRoot.querySelector('img.large');
      if (!picture?.complete || !picture.naturalWidth) window.blank += 1;
      window.shown.push(performance.now() - from);
    }));
  });
  document.addEventListener('answer-stored', () => window.acknowledged.push(performance.now() - window.saved));
"""
ALL_SENT = "() => !Object.keys(localStorage).some((key) => key.startsWith('second-look:'))"


def run() -> dict[str, Any]:
    """Median and 95th percentile milliseconds from Enter to the next image and to the acknowledgement."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build(root)
        with browser.serve(root) as (address, pid):
            pages, seconds, cpu = asyncio.run(_at_work(address, pid))
            resident = browser.resident_mb(pid)
        stored = votes.events(votes.connect(configuration.load(root / "params.yaml")))
    shown = np.concatenate([page["shown"] for page in pages])
    acknowledged = np.concatenate([page["acknowledged"] for page in pages])
    saved = len(shown)
    if any(page["blank"] for page in pages) or len(acknowledged) != saved:
        raise RuntimeError(
            f"{sum(page['blank'] for page in pages)} blank images, {len(acknowledged)} of {saved} stored"
        )
    if len(stored) != PROPOSED * saved or stored["submission"].nunique() != saved or not stored["counts"].all():
        raise RuntimeError(f"the database holds {len(stored)} answers of {saved} images")
    found = {"shown_ms": round(float(np.median(shown)), 1)}
    return {
        "annotators": ANNOTATORS,
        "images_saved": saved,
        **beside(TARGETS, found),
        "shown_p95_ms": round(float(np.quantile(shown, 0.95)), 1),
        "shown_most_ms": round(float(shown.max()), 1),
        "acknowledged_ms": round(float(np.median(acknowledged)), 1),
        "acknowledged_p95_ms": round(float(np.quantile(acknowledged, 0.95)), 1),
        "seconds": round(seconds, 1),
        "images_per_second": round(saved / seconds, 2),
        "server_cpu_percent": round(100 * cpu / seconds, 1),
        "server_resident_mb": round(resident),
        "load_average": round(os.getloadavg()[0], 1),
        "met": met(TARGETS, found),
    }


async def _at_work(address: str, pid: int) -> tuple[list[dict[str, Any]], float, float]:
    """What each page noted, seconds that all were at work, and CPU seconds of the server in that time."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=browser._chromium(), args=[*browser.FLAGS, *FRONT])
        pages = [await _signed_in(chromium, address, f"Annotator {i + 1}") for i in range(ANNOTATORS)]
        start, before = time.perf_counter(), cpu_seconds(pid)
        await asyncio.gather(*(_annotate(page, i) for i, page in enumerate(pages)))
        seconds, cpu = time.perf_counter() - start, cpu_seconds(pid) - before
        noted = "() => ({shown: window.shown, acknowledged: window.acknowledged, blank: window.blank})"
        found = [await page.evaluate(noted) for page in pages]
        await chromium.close()
    return found, seconds, cpu


async def _signed_in(chromium: Any, address: str, name: str) -> Any:
    context = await chromium.new_context(viewport={"width": 1440, "height": 1000})
    await context.add_init_script(WATCH)
    page = await context.new_page()
    await page.goto(f"{address}/annotate")
    await page.get_by_role("textbox", name="Name").fill(name, timeout=browser.WAIT_MS)
    await page.get_by_role("textbox", name="PIN").fill("1234")
    await page.keyboard.press("Enter")
    await page.locator(".card").first.wait_for(timeout=browser.WAIT_MS)
    await page.wait_for_timeout(500)
    await page.evaluate("window.shown = []")  # the first image waits for nobody's Enter
    return page


async def _annotate(page: Any, seed: int) -> None:
    """Think, tick, look at both pages of labels, save; EACH times. Nobody is in step with anybody."""
    rng = np.random.default_rng(seed)
    await asyncio.sleep(THINKING * rng.random())
    for _ in range(EACH):
        await asyncio.sleep(THINKING * rng.uniform(0.8, 1.2))
        await page.keyboard.press(str(rng.integers(1, 10)))
        await page.keyboard.press("Enter")  # to the second page of labels
        n = await page.evaluate("window.shown.length")
        await page.keyboard.press("Enter")
        await page.wait_for_function("(n) => window.shown.length > n", arg=n, timeout=browser.WAIT_MS)
    await page.wait_for_function(ALL_SENT, timeout=browser.WAIT_MS)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, in user mode and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def build(root: Path) -> None:
    """Write params.yaml and a database of made-up images, pictures and proposals under `root`."""
    import duckdb
    import pandas as pd

    browser.build(root, 3, IMAGES, CLASSES)
    rng = np.random.default_rng(0)
    ids = [f"{browser.DATASET}/{i:06d}" for i in range(IMAGES)]
    classes = np.argsort(rng.random((IMAGES, CLASSES), np.float32), axis=1)[:, :PROPOSED]
    pictures = pd.DataFrame({"sample_id": ids, "thumbnail": [picture(rng) for _ in ids], "media_type": "image/webp"})
    proposals = pd.DataFrame(
        {
            "sample_id": np.repeat(ids, PROPOSED),
            "class_id": classes.ravel(),
            "rank": np.tile(np.arange(1, PROPOSED + 1), IMAGES),
            "score": np.tile(np.linspace(0.5, 0.01, PROPOSED), IMAGES),
            "proposer": "synthetic",
        }
    )
    queue = pd.DataFrame({"sample_id": ids, "quality": rng.random(IMAGES), "disagreement": 0.0, "entropy_nats": 0.0})
    queue = queue.assign(n_likely=1, place=rng.permutation(IMAGES) + 1)
    with duckdb.connect(str(root / "results" / database.FILE)) as connection:
        for name, frame in {"images": pictures, "proposals": proposals, "queue": queue}.items():
            connection.register("made_up", frame)
            connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM made_up")
            connection.unregister("made_up")


def picture(rng: np.random.Generator) -> bytes:
    """A picture of a few kilobytes: a coarse pattern in colour, drawn large."""
    from PIL import Image

    stream = io.BytesIO()
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(stream, "WEBP", quality=80, method=0)
    return stream.getvalue()
