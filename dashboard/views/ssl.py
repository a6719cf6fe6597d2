"""SSL: self-supervised against supervised, where both are seen under the same conditions."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from bench import stats
from dashboard import db, findings, parts, plots, state, terms
from dashboard.frames import Frame, records


def matched(catalogue: db.Catalogue, models: tuple[str, ...]) -> list[tuple[Any, Any]]:
    """(self-supervised, supervised) models of one architecture."""
    rows = [row for row in records(catalogue.models) if row.model in models]
    ssl, supervised = ([row for row in rows if row.family == family] for family in ("ssl", "supervised"))
    return [(a, b) for a in ssl for b in supervised if a.arch == b.arch != "unknown"]


def against_control(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...]) -> str:
    """Whether the self-supervised encoders among some models beat untrained ones of their architecture, on the set of
    their head; empty where none of them was tested."""
    rows = list(records(catalogue.models))
    control = {row.arch: row.model for row in rows if row.family == "random"}
    pairs, sets = [], {}
    for row in rows:
        if row.family == "ssl" and row.model in models and row.source != "imported":  # its head was fitted here
            pair = row.model, control.get(row.arch, "")
            found = db.pairs(source, row.train_dataset, pair).get(pair)
            pairs.append((row.name, found))
            if found is not None:
                sets[catalogue.dataset_name(row.train_dataset)] = found.n
    said = findings.controls(pairs, db.statistics(source)["alpha"])
    where = " and ".join(f"the test images of {name} (n = {n:,})" for name, n in sets.items())
    return f"On {where}: {said}" if said else ""


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    chosen = {*state.models(catalogue, view), *catalogue.choose(("random", "pixels"), (), view.dataset)}
    chosen -= set(catalogue.models.loc[catalogue.models["method"] == "ensemble", "model"])
    models = tuple(model for model in catalogue.models["model"] if model in chosen)
    frame = db.accuracies(source, "all", db.ORIGINAL, models)
    sets = related(catalogue, view.dataset)
    dataset, name = view.dataset, catalogue.dataset_name(view.dataset)
    clean = frame.loc[frame["dataset"] == dataset]
    best = {
        family: rows.loc[rows["value"].idxmax()] for family, rows in clean.groupby("family") if family in terms.FAMILY
    }
    said = ""
    if "supervised" in best and "ssl" in best:
        a, b = best["supervised"], best["ssl"]
        pair = db.pairs(source, dataset, (a.model, b.model)).get((a.model, b.model))
        alpha = db.statistics(source)["alpha"]
        names = f"{a['name']} (the best supervised model)", f"{b['name']} (the best self-supervised one)"
        said = findings.against(pair, *names, name, alpha)
    parts.head(
        "Are self-supervised models as accurate and as robust as supervised ones?",
        said or lacking(catalogue, view),
    )
    control = against_control(source, catalogue, models)
    if control:
        st.markdown(control, help=f"{terms.HELP['linear']} {terms.HELP['families']}")
    if "trained" in set(catalogue.models.loc[catalogue.models["model"].isin(models), "source"]):
        st.caption(
            "Controls (an untrained encoder, raw pixels) are always shown. Each model was trained once. A network "
            "trained here without labels (but MAE) also saw changed brightness and contrast, blur and noise, a "
            "supervised one only changed geometry: a difference under corruption or attack is one of method and "
            "augmentation together."
        )
    if clean.empty:
        return

    backbones(source, catalogue, models, sets)
    side_by_side(catalogue, frame, sets)
    corrupted(source, catalogue, models, view)
    attacked(source, catalogue, models)
    few_labels(source, models)
    parts.strip(source, view, dataset, str(best["ssl"].model) if "ssl" in best else "")


def lacking(catalogue: db.Catalogue, view: state.View) -> str:
    """Why there is nothing to compare."""
    here = catalogue.models.loc[catalogue.models["model"].isin(catalogue.choose((), (), view.dataset)), "family"]
    absent = [terms.FAMILY[family].lower() for family in ("supervised", "ssl") if family not in set(here)]
    if not absent:
        return "The chosen models hold no supervised and self-supervised one to compare: choose both above."
    name = catalogue.dataset_name(view.dataset)
    return f"No {' and no '.join(absent)} model is known to have answered to {name}, so there is nothing to compare."


def related(catalogue: db.Catalogue, dataset: str) -> list[str]:
    """The chosen set's original, the replications of it and sets shifted from it, and the chosen set."""
    original = (
        dataset if catalogue.held_against(dataset) else str(catalogue.datasets.at[dataset, "replicates"]) or dataset
    )
    roles = catalogue.datasets["role"]
    others = [one for one in catalogue.held_against(original) if roles[one] in ("replication", "shifted")]
    return list(dict.fromkeys([original, *others, dataset]))


def side_by_side(catalogue: db.Catalogue, frame: Frame, sets: list[str]) -> None:
    """Accuracy of every model on the original and on the sets held against it."""
    st.subheader(
        "Clean images, as collected and shifted", anchor=False, help=f"{terms.HELP['shifted']} {terms.HELP['interval']}"
    )
    shown = pd.concat([frame.loc[frame["dataset"] == one] for one in sets])
    shown = shown.assign(
        dataset_name=shown["dataset"].map(catalogue.dataset_name),
        role=shown["dataset"].map(catalogue.datasets["role"]),
    )
    parts.figure(
        plots.accuracies(shown, "Accuracy"),
        shown[["model", "name", "family", "ssl_family", "arch", "dataset_name", "value", "ci_low", "ci_high", "n"]],
        "ssl-clean",
        f"Accuracy of the models on {len(sets)} sets",
    )
    parts.remarks(catalogue, shown["model"].drop_duplicates().tolist())


def backbones(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...], sets: list[str]) -> None:
    """Self-supervised minus supervised on the same architecture and the same images."""
    rows = []
    alike = matched(catalogue, models)
    among = tuple(sorted({row.model for pair in alike for row in pair}))
    for dataset in sets if alike else ():
        table = db.pairs(source, dataset, among)
        for a, b in alike:
            found = table.get((a.model, b.model))
            if found is not None:
                rows.append(
                    {
                        "name": f"{a.name} − {b.name}",
                        "model_a": a.model,
                        "model_b": b.model,
                        "dataset": dataset,
                        "dataset_name": catalogue.dataset_name(dataset),
                        "role": str(catalogue.datasets.at[dataset, "role"]),
                        "delta_pp": found.delta_pp,
                        "ci_low": found.ci_low,
                        "ci_high": found.ci_high,
                        "p_holm": found.p_holm,
                        "n": found.n,
                    }
                )
    st.subheader(
        "The same backbone, trained with and without labels",
        anchor=False,
        help="Accuracy of the self-supervised model minus that of the supervised one of the same architecture, on the "
        "same images. Left of zero: the supervised one is better. " + terms.HELP["interval"],
    )
    if not rows:
        st.caption("No architecture among these models has both.")
        return
    pairs = pd.DataFrame(rows)
    parts.figure(
        plots.differences(pairs, "Self-supervised minus supervised, percentage points"),
        pairs,
        "matched-backbones",
        "Difference of self-supervised and supervised models of one architecture",
    )
    shown = pd.DataFrame(
        {
            "Pair": pairs["name"],
            "Set": pairs["dataset_name"],
            "Difference, pp": pairs["delta_pp"].round(1),
            "From": pairs["ci_low"].round(1),
            "To": pairs["ci_high"].round(1),
            "p (Holm)": [f"{p:.4f}" if p >= 0.0001 else "< 0.0001" for p in pairs["p_holm"]],
            "n": pairs["n"],
        }
    )
    number = st.column_config.NumberColumn
    config = {"p (Holm)": st.column_config.TextColumn(help=terms.HELP["place"])}
    config |= {
        column: number(format="%.1f", help=terms.HELP["interval"]) for column in ("Difference, pp", "From", "To")
    }
    parts.table(shown, "matched-backbones", config, alt="Self-supervised minus supervised")


def corrupted(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...], view: state.View) -> None:
    """Accuracy by severity of one corruption."""
    if all(db.under(source, "corruption", one, models).empty for one in catalogue.corruptions):
        return
    st.subheader("Corrupted images", anchor=False, help=terms.HELP["severity"])
    state.bound(
        st.segmented_control,
        "Corruption",
        "corruption",
        value=catalogue.corruptions[0],
        options=catalogue.corruptions,
        format_func=terms.corruption_name,
        required=True,
        label_visibility="collapsed",
    )
    corruption = view.corruption or catalogue.corruptions[0]
    frame = db.under(source, "corruption", corruption, models)
    if frame.empty:
        st.caption("No figures for these models.")
        return
    where = catalogue.dataset_name(str(frame["dataset"].iloc[0]))
    what = terms.corruption_name(corruption)
    parts.figure(
        plots.levels(frame, f"{what}, severity", f"Accuracy on {where} (n = {frame['n'].max():,})"),
        frame,
        f"corruption-{corruption}",
        f"Accuracy by severity of {what}",
    )
    st.caption("Corruptions are simulated on the test images.")


def attacked(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...]) -> None:
    """Robust accuracy by eps of each attack."""
    for attack in catalogue.attacks:
        frame = db.under(source, "attack", attack, models)
        if frame.empty:
            continue
        title = terms.ATTACK.get(attack, attack)
        st.subheader(f"Under attack: {title}", anchor=False, help=f"{terms.HELP['robust']} {terms.HELP['eps']}")
        where = catalogue.dataset_name(str(frame["dataset"].iloc[0]))
        parts.figure(
            plots.levels(
                frame,
                "Largest change of a pixel, eps in 1/255",
                f"Robust accuracy on {where} (n = {frame['n'].max():,})",
            ),
            frame,
            f"attack-{attack}",
            f"Robust accuracy by eps under {title}",
        )
        st.caption("Each model is attacked with its own gradient; controls are not attacked.")


def few_labels(source: db.Source, models: tuple[str, ...]) -> None:
    """Heads on frozen features: all labels, few labels, nearest neighbours."""
    frame = db.heads(source, models)
    if frame.empty:
        return
    many = frame["labels_per_class"].eq(0)
    labels = frame["labels_per_class"].astype(str).radd("").add(" labels a class").where(~many, "all labels")
    frame = frame.assign(head=frame["probe"].map(terms.PROBE).fillna(frame["probe"]) + ", " + labels)
    low, high = stats.wilson(frame["value"] * frame["n"], frame["n"])
    one = frame["seeds"] == 1
    frame = frame.assign(
        ci_low=frame["lowest"].where(~one, low),
        ci_high=frame["highest"].where(~one, high),
        about=[f"lowest and highest of {k} draws" if k > 1 else "interval" for k in frame["seeds"]],
    ).sort_values(
        ["probe", "labels_per_class"], key=lambda c: c.map({"linear": "0"}).fillna(c) if c.name == "probe" else c
    )
    st.subheader("With few labels", anchor=False, help=f"{terms.HELP['linear']} {terms.HELP['knn']}")
    st.caption(
        "Heads on frozen features. With few labels: the mean over draws of the labels, lowest to highest as a line."
    )
    parts.figure(
        plots.heads(frame, f"Accuracy of the head (n = {frame['n'].max():,})"),
        frame[["model", "name", "family", "head", "value", "ci_low", "ci_high", "about", "seeds", "n"]],
        "heads",
        "Accuracy of heads on frozen features",
    )
    shown = frame.assign(
        said=[terms.percent(*row) for row in zip(frame["value"], frame["ci_low"], frame["ci_high"], strict=True)]
    )
    wide = shown.pivot_table(index="name", columns="head", values="said", aggfunc="first", sort=False)
    wide.columns = [f"{head}, accuracy" for head in wide.columns]
    once = frame.drop_duplicates("name").set_index("name")
    wide = wide.assign(
        n=once["n"], **{"Effective rank": once["effective_rank"].round(1), "Spread": once["collapse_std"].round(2)}
    )
    best = frame.groupby("name")["value"].max()
    wide = wide.loc[best.sort_values(ascending=False).index].reset_index(names="Model")
    config = {
        "n": st.column_config.NumberColumn("n", help="Test images."),
        "Effective rank": st.column_config.NumberColumn(help=terms.HELP["effective_rank"], format="%.1f"),
        "Spread": st.column_config.NumberColumn(
            help="Spread of the normalised features: 1 = all over, 0 = collapsed into one point.", format="%.2f"
        ),
    }
    parts.table(wide, "heads-by-model", config, alt="Accuracy of heads on frozen features, with intervals")


main()
