"""Snapshot: what produced the figures on these pages, and how to make them again."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import db, parts, terms

COMMANDS = """make repro            # rebuild every result from the data
bench database        # only the database, from results that are there
bench snapshot list   # released versions
bench snapshot open NAME"""


def main() -> None:
    source = st.session_state["source"]
    catalogue = db.catalogue(source)
    facts = db.snapshot(source)
    commit = facts.get("git_commit", "unknown")
    said = "a folder outside version control" if commit == "unknown" else f"commit **{commit[:10]}**"
    if facts.get("git_dirty") == "true":
        said += " with changes that are not committed"
    release = f", released as **{facts['release']}**" if "release" in facts else ""
    made = facts.get("created", "").replace("T", " ").removesuffix("Z")
    machine = [facts["device"], f"{facts['threads']} threads", facts["dtype"], facts["machine"]]
    parts.head(
        "What produced these results?",
        f"Results **{facts['snapshot_id']}** come from {said}{release}.",
        f"The database was built on {made} UTC. Computed on {', '.join(machine)}.",
    )
    st.markdown("**Make them again**")
    st.code(COMMANDS, language="bash")

    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Rows of each table**")
        counts = {key.removeprefix("count:"): int(value) for key, value in facts.items() if key.startswith("count:")}
        parts.table(pd.DataFrame({"Table": counts.keys(), "Rows": counts.values()}), "counts", alt="Rows of each table")
    with right:
        st.markdown("**Versions**")
        versions = {k.removeprefix("version:"): v for k, v in facts.items() if k.startswith("version:")}
        parts.table(
            pd.DataFrame({"Library": versions.keys(), "Version": versions.values()}), "versions", alt="Library versions"
        )

    st.markdown("**Sets of images**", help=f"{terms.HELP['shifted']} {terms.HELP['control']}")
    sets = catalogue.datasets.reset_index()
    parts.table(
        pd.DataFrame(
            {
                "Set": sets["title"],
                "Role": sets["role"].map(terms.ROLE),
                "Made here by": sets["synthetic"].replace("", "–"),
                "Held against": sets["replicates"].map(sets.set_index("dataset")["title"]).fillna("–"),
                "Test images": sets["n_test"],
                "About": sets["about"],
                "Source": sets["source"],
                "License": sets["license"],
            }
        ),
        "datasets",
        {"About": st.column_config.TextColumn(width="large"), "Source": st.column_config.TextColumn(width="medium")},
        alt="Sets of images",
    )
    st.markdown("**Subsets**")
    subsets = catalogue.subsets
    parts.table(
        pd.DataFrame(
            {
                "Subset": subsets["subset"].map(terms.subset_name),
                "Set": subsets["dataset"].map(catalogue.dataset_name),
                "Images": subsets["n"],
                "Definition": subsets["about"],
            }
        ),
        "subsets",
        {"Definition": st.column_config.TextColumn(width="large")},
        alt="Subsets and their definitions",
    )
    st.markdown("**Models**")
    models = catalogue.models
    parts.table(
        pd.DataFrame(
            {
                "Model": models["name"],
                "Family": models["family"].map(terms.FAMILY),
                "Kind of self-supervision": models["ssl_family"].map(terms.SSL_FAMILY).fillna("–"),
                "Parameters, M": models["params_m"].round(3),
                "Epochs": models["epochs"],
                "In params.yaml": models["model"],
                "Answers from": models["origin"].fillna("–"),
            }
        ),
        "models",
        {
            "Parameters, M": st.column_config.NumberColumn(format="%.3f"),
            "Answers from": st.column_config.TextColumn(
                width="large", help="Where the answers of an imported model come from, and what to mind of them."
            ),
        },
        alt="Models",
    )
    with st.expander("Parameters (params.yaml)"):
        st.code(facts.get("params", ""), language="yaml")


main()
