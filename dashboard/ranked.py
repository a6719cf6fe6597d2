"""Accuracy of models on some images, drawn by a few lines of JavaScript that stay in the page when the data change.

Plotly is made anew by Streamlit at every change of its data, which takes longer than a filter over 60 million answers.
Here the data reach the figure that is already there (dashboard/ranked.js), as arrays.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.components.v2 import component

from dashboard import parts, plots, terms
from dashboard.frames import Frame

HERE = Path(__file__).parent
EVERY = "on all images of the set"
LEAD = 0.08
"""Seconds that the rest of the page is held back for the figure: what reaches a browser together is drawn together."""

_drawn = component("ranked", css=(HERE / "ranked.css").read_text(), js=(HERE / "ranked.js").read_text())


def payload(frame: Frame, title: str, alt: str) -> dict[str, Any]:
    """What the browser gets: an array a column, in percent to four decimals; nothing of it is HTML.

    frame: name, family, value, ci_low, ci_high, n, all_value; the best first, all with the same n.
    """
    of = frame["family"].tolist()
    present = set(of)
    families = [family for family in terms.FAMILY if family in present]
    place = {family: i for i, family in enumerate(families)}
    columns = {"value": "value", "low": "ci_low", "high": "ci_high", "all": "all_value"}
    return {
        "title": title,
        "alt": alt,
        "axis": "Accuracy, %",
        "ranks": f"{len(frame):,} models, the most accurate first",
        "every": EVERY,
        "grey": plots.GREY,
        "most": plots.RANKED,
        "compact": plots.COMPACT,
        "n": int(frame["n"].iloc[0]),
        "families": [[terms.FAMILY[family], plots.COLOUR[family]] for family in families],
        "names": frame["name"].tolist(),
        "family": [place[family] for family in of],
        **{name: np.round(100 * frame[column].to_numpy(float), 4).tolist() for name, column in columns.items()},
    }


def figure(frame: Frame, title: str, name: str, alt: str) -> None:
    """The figure, under a key that stays so that it is drawn in place, and the downloads of its frame."""
    _drawn(key=f"figure:{name}", data=payload(frame, title, alt))
    time.sleep(LEAD)
    parts.downloads(frame, f"{name}-figure")
