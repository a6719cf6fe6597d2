"""Methods: self-supervised frameworks by family and year, the packages that have them, and good practice."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench.studies import frameworks
from bench.studies.frameworks import Registry
from dashboard import parts, plots, state, terms

QUESTION = "Which self-supervised methods are there?"


@st.cache_resource(show_spinner=False)
def registry() -> Registry:
    """The registry. Shared by all sessions: nobody writes into it."""
    return frameworks.load()


def main() -> None:
    known = registry().frameworks
    runs = [one.name for one in known if one.here]
    years = [one.year for one in known]
    parts.head(
        QUESTION,
        f"**{len(known)}** frameworks from {min(years)} to {max(years)}, by what they make an encoder predict; "
        f"**{len(runs)}** of them run here: {', '.join(runs)}.",
    )
    st.markdown(
        "Each has an arXiv id or DOI that was looked up. What a framework predicts, its loss and what prevents "
        "collapse are said in this project's own words.",
        help=terms.HELP["frameworks"],
    )
    family = state.bound(
        st.segmented_control,
        "Family",
        "taxon",
        options=["", *terms.FRAMEWORKS],
        format_func=lambda one: terms.FRAMEWORKS[one] if one else "All",
    )
    rows = pd.DataFrame(
        [{**one.model_dump(exclude={"packages"}), "packages": ", ".join(one.packages), "url": one.url} for one in known]
    )
    chosen = (rows.loc[rows["family"] == family] if family else rows).sort_values(["year", "name"])
    parts.figure(
        plots.timeline(chosen.assign(family_name=chosen["family"].map(terms.FRAMEWORKS.get))),
        chosen,
        "frameworks-timeline",
        f"{len(chosen)} self-supervised frameworks by year and family",
    )
    shown = pd.DataFrame(
        {
            "Framework": chosen["name"],
            "Year": chosen["year"],
            "Family": chosen["family"].map(terms.FRAMEWORKS.get),
            "Predicts": chosen["predicts"],
            "Reference": chosen["url"],
            "Loss": chosen["loss"],
            "Against collapse": chosen["collapse"],
            "Runs here as": chosen["here"].fillna(""),
            "In packages": chosen["packages"],
        }
    )
    config = {
        "Year": st.column_config.NumberColumn(format="%d"),
        "Reference": st.column_config.LinkColumn(display_text=r"https://(?:arxiv\.org/abs|doi\.org)/(.*)"),
    }
    parts.table(shown, "frameworks", config, alt="Self-supervised frameworks")
    st.subheader("Packages", anchor=False)
    st.caption(
        "As their own pages said in November 2026; empty where they did not say. Frameworks were counted for the four "
        "packages of the survey's time."
    )
    packages = registry().packages
    table = pd.DataFrame(
        {
            "Package": [one.name for one in packages],
            "Latest release seen": [one.release or "" for one in packages],
            "Maintained": [one.maintained or "" for one in packages],
            "Licence": [one.licence or "" for one in packages],
            "Of these frameworks": [sum(one.name.lower() in row.packages for row in known) or None for one in packages],
            "Repository": [one.repository for one in packages],
        }
    )
    parts.table(table, "packages", {"Repository": st.column_config.LinkColumn()}, alt="Software packages")
    st.subheader("Good practice, and how it is done here", anchor=False)
    for one in registry().practices:
        cited = f" ({', '.join(one.references)})" if one.references else ""
        here = f" **Here:** {one.here}." if one.here else " **Here:** not shown yet."
        st.markdown(f"- **{one.practice}.** {one.why} {one.do}{cited}{here}")


main()
