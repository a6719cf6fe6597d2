"""Labels: how many labels images have by each source, and what that does to accuracy and to gaps (study 1)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from bench import compute, stats
from dashboard import db, findings, parts, plots, state, terms
from dashboard.frames import Frame, records

QUESTION = "How many labels do images have, and what does that do to accuracy?"
METRICS = {
    "top1": "Top-1",
    "any_of": "Any-of",
    "any_of_empty_wrong": "Empty wrong",
    "class_balanced": "Class-balanced",
    "top_k": "Top-k",
}
DEFINED = """
- **Top-1**: the original label is the first answer. All images.
- **Any-of** (known as ReaL accuracy): the first answer is any of the labels of the chosen source. Images without labels
  are left out; **empty wrong** is the same with them counted as wrong.
- **Class-balanced** multi-label accuracy: any-of within each class of the original label, then the mean over classes.
  This is our definition, after Shankar et al. and Vasudevan et al.: they also accept labels judged unclear and drop
  images judged problematic, which these labels do not tell apart.
- **Top-k**, with k the number of labels of the image: the share of its labels among the first k answers, averaged over
  images. All of its labels have to be found. Images without labels, or with more labels than answers are known (5), are
  left out.
"""
PAPER = ("imagenet", "real")
"""The set and the labels of which the paper's line is quoted."""
MODEL = st.column_config.TextColumn(pinned=True, width=150)
WHOLE = st.column_config.NumberColumn(format="localized")
BOUND = "an upper bound of what labels explain: the two label sets come from different processes"


def choose(source: db.Source, catalogue: db.Catalogue, view: state.View) -> tuple[str, str] | None:
    """The set and the source of labels that the page is about; None where no set has labels besides the original ones.

    The chosen ones, where they are such; else the first other source of the set; else that of another set, if possible
    of the same classes and with several labels an image.
    """
    facts = db.label_facts(source)
    if facts.empty:
        return None
    spaces = catalogue.datasets["label_space"]
    known = facts.groupby("dataset", sort=False)["label_source"].agg(list).to_dict()
    rich = set(facts.loc[facts["n_several"] > 0, "dataset"])
    alike = [one for one in known if spaces[one] == spaces[view.dataset]]
    dataset = next(one for one in (view.dataset, *(a for a in alike if a in rich), *alike, *known) if one in known)
    return dataset, view.labels if view.labels in known[dataset] else known[dataset][0]


def instead(catalogue: db.Catalogue, view: state.View, dataset: str, labels: str) -> str:
    """What is shown in place of what was chosen, in words; empty where that is shown."""
    asked, shown = catalogue.dataset_name(view.dataset), catalogue.dataset_name(dataset)
    by = catalogue.labels_name(dataset, labels)
    if dataset != view.dataset:
        return f"{asked} has only its original labels; shown are those of {shown} by “{by}”."
    if labels != view.labels:
        return f"Original labels are one an image; shown are those of the source “{by}”."
    return ""


def sides(facts: Frame, dataset: str, labels: str, pairs: list[tuple[str, str, str, str]]) -> Frame:
    """The facts of all sets and sources, the chosen ones first, then the other side of a gap with it."""
    other = {(o, lo) for o, r, lo, lr in pairs if (r, lr) == (dataset, labels)}
    other |= {(r, lr) for o, r, lo, lr in pairs if (o, lo) == (dataset, labels)}
    keys = list(zip(facts["dataset"], facts["label_source"], strict=True))
    rank = [0 if key == (dataset, labels) else 1 if key in other else 2 for key in keys]
    return facts.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)


def show_facts(source: db.Source, catalogue: db.Catalogue, facts: Frame, confidence: float) -> None:
    """What each source gives to each set, side by side, and how the labels were made."""
    st.subheader("What each source says", anchor=False, help=f"{terms.HELP['several']} {terms.HELP['interval']}")
    n, labelled = facts["n_images"], facts["n_images"] - facts["n_empty"]
    low, high = stats.wilson(facts["n_several"], n, confidence)
    shown = pd.DataFrame(
        {
            "Set": facts["dataset"].map(catalogue.dataset_name),
            "Labels": [catalogue.labels_name(row.dataset, row.label_source) for row in records(facts)],
            "Images": n,
            "Two or more, of all": 100 * facts["n_several"] / n,
            "From": 100 * low,
            "To": 100 * high,
            "Two or more, of labelled": 100 * facts["n_several"] / labelled.clip(lower=1),
            "No label": 100 * facts["n_empty"] / n,
            "Original inside, of all": 100 * facts["n_original"] / n,
            "Original inside, of labelled": 100 * facts["n_original"] / labelled.clip(lower=1),
            "Most": facts["most"],
        }
    )
    said = {
        "Two or more, of all": terms.HELP["several"],
        "From": terms.HELP["interval"],
        "To": terms.HELP["interval"],
        "Two or more, of labelled": terms.HELP["several"],
        "No label": terms.HELP["empty"],
        "Original inside, of all": terms.HELP["holds"],
        "Original inside, of labelled": terms.HELP["holds"],
    }
    config = {name: st.column_config.NumberColumn(format="%.2f %%", help=text) for name, text in said.items()}
    config["Set"] = st.column_config.TextColumn(pinned=True)
    config["Images"] = WHOLE
    config["Most"] = st.column_config.NumberColumn(help="The largest number of labels of one image.")
    parts.table(shown, "label-sources", config, alt="What each source of labels says of each set")
    sets = facts["dataset"].drop_duplicates().tolist()
    lines = [
        f"- **{catalogue.dataset_name(dataset)}, {catalogue.labels_name(dataset, labels)}**: {about}"
        for dataset, labels, about in sorted(
            ((*key, about) for key, about in db.label_processes(source).items() if key[0] in sets),
            key=lambda row: (sets.index(row[0]), row[1] == db.ORIGINAL, row[1]),
        )
    ]
    if lines:
        st.markdown("**How the labels were made**", help=terms.HELP["process"])
        st.markdown("\n".join(lines))


def show_accuracies(frame: Frame, counts: Frame, key: str, where: str, confidence: float) -> None:
    """The accuracies by name, their definitions, and every model's; `counts` are its accuracies by number of labels."""
    st.subheader("Four ways to count an answer as right", anchor=False, help=terms.HELP["interval"])
    st.markdown(DEFINED)
    if frame.empty:
        st.caption("No model of this choice answered to this set.")
        return
    level = terms.level(confidence)
    values = frame.pivot(index="model", columns="metric", values=["value", "ci_low", "ci_high", "n"])
    first = frame.drop_duplicates("model").set_index("model")
    columns: dict[str, object] = {"Model": first["name"], "Family": first["family"].map(terms.FAMILY)}
    config: dict[str, object] = {"Model": MODEL}
    counted = []
    for metric, name in METRICS.items():
        if ("value", metric) not in values:
            continue
        ends = [100 * values[end, metric] for end in ("ci_low", "ci_high")]
        columns[name] = 100 * values["value", metric]
        between = f"{name}, {level}"
        columns[between] = [
            f"{low:.1f} to {high:.1f}" if np.isfinite(low) else None for low, high in zip(*ends, strict=True)
        ]
        config[name] = st.column_config.NumberColumn(format="%.2f %%", help=terms.HELP[metric])
        config[between] = st.column_config.TextColumn(help=terms.HELP["interval"])
        least, most = int(values["n", metric].min()), int(values["n", metric].max())
        counted.append(f"{name} {least:,}" + (f" to {most:,}" if most > least else ""))
    for scoring, name in terms.SCORING.items():
        several = counts.loc[(counts["scoring"] == scoring) & (counts["n_labels"] > 1)]
        if several.empty:
            continue
        right = (several["value"] * several["n"]).round().groupby(several["model"]).sum().reindex(first.index)
        n = several.groupby("model")["n"].sum().reindex(first.index)
        low, high = stats.wilson(right, n, confidence)
        column = f"{name}, two or more"
        columns[column] = 100 * right / n
        columns[f"{column}, {level}"] = [f"{100 * a:.1f} to {100 * b:.1f}" for a, b in zip(low, high, strict=True)]
        config[column] = st.column_config.NumberColumn(format="%.2f %%", help="On images with two labels or more.")
        config[f"{column}, {level}"] = st.column_config.TextColumn(help=terms.HELP["interval"])
        counted.append(f"{column} {int(n.max()):,}")
    by = "Any-of" if "Any-of" in columns else "Top-1"
    shown = pd.DataFrame(columns).sort_values([by, "Model"], ascending=[False, True])
    st.caption(
        f"{where}, best by {by.lower()} first. A click on a column sorts, the magnifying glass of the table searches. "
        f"Images behind the figures: {'; '.join(counted)}."
    )
    parts.table(shown, f"{key}-accuracies", config, alt=f"Accuracies of {len(shown)} models, {where}")


def show_histogram(source: db.Source, catalogue: db.Catalogue, facts: Frame, pairs: set[tuple[str, str]]) -> None:
    """How many labels images have, and beside it the other side of the gap."""
    st.subheader("How many labels an image has", anchor=False, help=terms.HELP["nlabels"])
    chosen = facts.iloc[:1]
    rest = facts.iloc[1:]
    rest = rest.loc[[key in pairs for key in zip(rest["dataset"], rest["label_source"], strict=True)]]
    sets = []
    for row in records(pd.concat([chosen, rest.head(1)])):
        counts = db.label_histogram(source, row.dataset, row.label_source)
        sets.append(
            (f"{catalogue.dataset_name(row.dataset)}, {catalogue.labels_name(row.dataset, row.label_source)}", counts)
        )
    parts.figure(
        plots.label_histogram(sets),
        pd.concat([counts.assign(set=name) for name, counts in sets]),
        f"label-counts-{chosen['dataset'].iloc[0]}-{chosen['label_source'].iloc[0]}",
        f"Histogram of the number of labels, {' and '.join(name for name, _ in sets)}",
    )


def show_by_labels(frame: Frame, correlation: Frame, view: state.View, key: str, best: str, most: int) -> None:
    """Accuracy against the number of labels, and its correlation with that."""
    st.subheader("Accuracy by the number of labels", anchor=False, help=f"{terms.HELP['bins']} {terms.HELP['strata']}")
    last = int(frame["n_labels"].max())
    if last < 2:
        st.caption("Every image with a label has exactly one, so there is nothing to compare.")
        return
    within = view.strat == "class"
    state.bound(
        st.segmented_control,
        "Compared",
        "strat",
        options=list(terms.STRATA),
        format_func=terms.STRATA.get,
        required=True,
    )
    if within:
        shown = frame.assign(at=frame["stratified_pp"], low=frame["stratified_low"], high=frame["stratified_high"])
        shown["at"] = shown["at"].where(shown["n_labels"] > 1, 0.0)
        axis, unit = "Against images with one label, pp", " pp"
        st.caption(
            "Accuracy minus accuracy on images with one label of the same original class, percentage points. "
            "One label is at 0 by definition."
        )
    else:
        shown = frame.assign(**{to: 100 * frame[of] for to, of in zip(("at", "low", "high"), _ENDS, strict=True)})
        axis, unit = "Accuracy", " %"
        st.caption(
            "Over all images with that many labels. Classes with many labels may be hard for other reasons: "
            "the comparison within original classes takes that out."
        )
    names = highlighted(frame, best)
    parts.figure(
        plots.by_labels(shown.dropna(subset="at"), names, last if most > last else None, unit, axis),
        frame.drop(columns=["method", "ssl_family", "arch"]),
        f"{key}-{view.strat}",
        f"Accuracy of {frame['name'].nunique()} models by the number of labels",
    )
    if frame["name"].nunique() > plots.FEW:
        st.caption(
            f"Thin lines: all {frame['name'].nunique()} models. With intervals: the most accurate one, and those in "
            "the middle and at the end by top-1 on images with one label. Pick models above to see others."
        )
    ranked = correlation.pivot(index="name", columns="scoring", values=["rho", "ci_low", "ci_high"])
    if correlation["rho"].notna().any():
        st.markdown("**Correlation of the number of labels with being right**", help=terms.HELP["rho"])
        columns: dict[str, object] = {"Model": ranked.index}
        config: dict[str, object] = {"Model": MODEL, "Images": WHOLE}
        for scoring, name in terms.SCORING.items():
            for end, word in (("rho", name), ("ci_low", f"{name}, from"), ("ci_high", f"{name}, to")):
                columns[word] = ranked[end, scoring].to_numpy(float)
                config[word] = st.column_config.NumberColumn(format="%.3f", help=terms.HELP["rho"])
        columns["Images"] = int(correlation["n"].max())
        table = pd.DataFrame(columns).sort_values(["Top-1", "Model"])
        parts.table(table, f"{key}-{view.strat}-correlation", config, alt="Rank correlations with intervals")


_ENDS = ("value", "ci_low", "ci_high")


def highlighted(frame: Frame, best: str) -> list[str]:
    """The best model and those in the middle and at the end by top-1 on images with one label."""
    first = frame.loc[(frame["scoring"] == "top1") & (frame["n_labels"] == 1)].sort_values("value", ascending=False)
    names = first["name"].tolist() or frame["name"].drop_duplicates().tolist()
    return list(dict.fromkeys([*([best] if best else []), names[len(names) // 2], names[-1]]))


@st.cache_data(max_entries=64, show_spinner=False)
def line_of(x: tuple[float, ...], y: tuple[float, ...], draws: int, confidence: float) -> stats.Line | None:
    """The line over models on linear axes with its band; None for fewer than three models."""
    try:
        rng = compute.rng("label line")
        return stats.fit_line(x, y, rng, scale="linear", draws=draws, confidence=confidence)
    except ValueError:
        return None


def show_line(
    frame: Frame, dataset: str, labels: str, role: str, name: str, numbers: dict[str, float], key: str
) -> None:
    """Any-of accuracy against top-1 accuracy over models, with the fitted line."""
    st.subheader("Any-of against top-1", anchor=False, help=f"{terms.HELP['any_of']} {terms.HELP['line']}")
    short = {"value": "value", "ci_low": "low", "ci_high": "high", "n": "n"}
    left, right = (
        frame.loc[frame["metric"] == metric].rename(columns={old: f"{new}_{side}" for old, new in short.items()})
        for metric, side in (("top1", "x"), ("any_of", "y"))
    )
    both = left[["model", "name", "family", "method", "value_x", "low_x", "high_x", "n_x"]].merge(
        right[["model", "value_y", "low_y", "high_y", "n_y"]], on="model"
    )
    if both.empty:
        st.caption("No model of this choice has both.")
        return
    single = both.loc[both["method"] != "ensemble"]
    x, y = (tuple(single[column]) for column in ("value_x", "value_y"))
    line = line_of(x, y, int(numbers["bootstrap"]), numbers["confidence"])
    parts.figure(
        plots.any_against_top1(both, line, role, f"Top-1 on {name}", f"Any-of, {terms.labels_name(labels)}"),
        both.drop(columns="method"),
        f"{key}-line",
        f"Any-of accuracy against top-1 accuracy of {len(both)} models on {name}",
    )
    if line is None:
        st.caption("A line needs at least three models with different accuracies.")
        return
    fit = "" if not np.isfinite(line.r2) else f", R² {100 * line.r2:.2f} %"
    said = (
        f"Over {line.n} models the slope is **{line.slope:.3f}** [{line.slope_low:.3f}, {line.slope_high:.3f}]{fit}: "
        f"a model that is 1 pp better by top-1 is {line.slope:.2f} pp better by any-of."
    )
    if (dataset, labels) == PAPER:
        said += " The paper reports, for 57 models, a slope of 0.5788 and R² 75.69 %."
    st.markdown(said, help=terms.HELP["line"])


def pick_pair(
    source: db.Source, catalogue: db.Catalogue, view: state.View, dataset: str, labels: str
) -> tuple[str, str, str, str] | None:
    """The gap to be shown: one with the chosen set and labels, by the set held against it; None where there is none."""
    mine = [p for p in db.label_pairs(source) if (dataset, labels) in ((p[0], p[2]), (p[1], p[3]))]
    if not mine:
        return None
    names = {
        pair: f"{catalogue.dataset_name(pair[0])}, {catalogue.labels_name(pair[0], pair[2])} → "
        f"{catalogue.dataset_name(pair[1])}, {catalogue.labels_name(pair[1], pair[3])}"
        for pair in mine
    }
    if len(mine) == 1:
        return mine[0]
    key = "labels:pair"
    asked = (pair for pair in mine if token(pair) == view.pair)
    against = (pair for pair in mine if pair[1] == view.against)
    st.session_state[key] = next(asked, None) or next(against, mine[0])
    return st.selectbox(
        "Which gap",
        mine,
        format_func=lambda pair: names[pair],
        key=key,
        on_change=lambda: state.change(pair=token(st.session_state[key])),
    )


def token(pair: tuple[str, str, str, str]) -> str:
    """A gap in an address: both of its sides, each a set and a source of labels."""
    original, other, ours, theirs = pair
    return f"{original}:{ours}~{other}:{theirs}"


def bound(catalogue: db.Catalogue, pair: tuple[str, str, str, str], scored: str) -> str:
    """What the removed part of a gap may be called; `scored` says how images without labels count, if there are any."""
    original, other, ours, theirs = pair
    if "relabelled" in (str(catalogue.datasets.at[side, "synthetic"]) for side in (original, other)):
        return (
            "Labels were changed here on purpose, and the other source holds them as they were before: "
            "what is removed is the doing of those labels."
        )
    start = f"With images without labels {scored}, this is" if scored else "This is"
    if ours == theirs:
        return f"{start} **an upper bound** of what labels explain: the labels of two sets are never made quite alike."
    return f"{start} **{BOUND}**."


@st.cache_data(max_entries=64, show_spinner=False)
def median_interval(values: tuple[float, ...], draws: int, confidence: float) -> tuple[float, float]:
    """Percentile bootstrap interval of the median over models."""
    rng = compute.rng("median over models")
    picked = rng.integers(0, len(values), (draws, len(values)))
    return stats.percentile_interval(np.median(np.array(values)[picked], axis=1), confidence)


def show_gaps(source: db.Source, catalogue: db.Catalogue, view: state.View, pair: tuple[str, str, str, str]) -> None:
    """A gap by the original and by any label, for every model, and what stands on either side."""
    original, other = pair[:2]
    models = state.models(catalogue, view, other)
    every = db.label_gaps(source, pair, models)
    name, other_name = catalogue.dataset_name(original), catalogue.dataset_name(other)
    st.subheader(
        f"What any-of scoring removes from the gap between {name} and {other_name}",
        anchor=False,
        help=f"{terms.HELP['gap']} {terms.HELP['removed']}",
    )
    if every.empty:
        st.caption("No model of this choice answered to both sets.")
        return
    facts = db.label_facts(source).set_index(["dataset", "label_source"])["n_empty"]
    empty = sum(int(facts.get(side, 0)) for side in ((original, pair[2]), (other, pair[3])))
    chosen = view.empty if empty else "excluded"
    if empty:
        state.bound(
            st.segmented_control,
            "Images without labels",
            "empty",
            options=list(terms.EMPTY),
            format_func=terms.EMPTY.get,
            required=True,
            help=terms.HELP["empty"],
        )
    frame = every.loc[every["empty"] == chosen].reset_index(drop=True)
    opposite = every.loc[every["empty"] != chosen]
    how = {"excluded": ("left out", "counted wrong"), "wrong": ("counted wrong", "left out")}[chosen]
    numbers = db.statistics(source)
    interval = median_interval(tuple(frame["removed_pp"]), int(numbers["bootstrap"]), numbers["confidence"])
    said = findings.removed(frame, name, other_name, interval)
    st.markdown(f"{said} {bound(catalogue, pair, how[0] if empty else '')}", help=terms.HELP["median"])
    if empty:
        now, then = (float(rows["removed_pp"].median()) for rows in (frame, opposite))
        counts = [
            (
                catalogue.dataset_name(dataset),
                int(facts.get((dataset, labels), 0)) / catalogue.datasets.at[dataset, "n_test"],
            )
            for dataset, labels in ((original, pair[2]), (other, pair[3]))
        ]
        st.caption(findings.exclusions(now, then, how, counts))
    parts.remarks(catalogue, frame["model"].tolist())
    show_sides(source, catalogue, pair)
    parts.figure(
        plots.label_gaps(frame, f"Gap between {name} and {other_name}"),
        frame.drop(columns=["method", "ssl_family", "arch"]),
        f"label-gaps-{'-'.join(pair)}-{chosen}",
        f"Gap of {len(frame)} models by original and by any label, and the difference",
    )
    there = opposite.set_index("model")["removed_pp"].reindex(frame["model"]).to_numpy(float)
    columns = {
        "Model": frame["name"],
        "Family": frame["family"].map(terms.FAMILY),
        "Gap by top-1": frame["gap_top1_pp"],
        "Top-1, from": frame["top1_low"],
        "Top-1, to": frame["top1_high"],
        "Gap by any-of": frame["gap_any_of_pp"],
        "Any-of, from": frame["any_of_low"],
        "Any-of, to": frame["any_of_high"],
        "Removed": frame["removed_pp"],
        "Removed, from": frame["removed_low"],
        "Removed, to": frame["removed_high"],
    }
    if empty:
        columns[f"Removed, empty {'wrong' if chosen == 'excluded' else 'left out'}"] = there
    said = {"Removed": terms.HELP["removed"], "Gap by top-1": terms.HELP["gap"], "Gap by any-of": terms.HELP["any_of"]}
    config: dict[str, object] = {
        column: st.column_config.NumberColumn(format="%.1f pp", help=said.get(column, terms.HELP["interval"]))
        for column in columns
        if column not in ("Model", "Family")
    }
    config["Model"] = MODEL
    parts.table(pd.DataFrame(columns), f"label-gaps-{'-'.join(pair)}-{chosen}", config, alt="Gaps of every model")


def show_sides(source: db.Source, catalogue: db.Catalogue, pair: tuple[str, str, str, str]) -> None:
    """What stands on either side of a gap: the process of the labels, what is left out, the originals inside."""
    facts = db.label_facts(source).set_index(["dataset", "label_source"])
    made = db.label_processes(source)
    columns = st.columns(2)
    for column, dataset, labels in ((columns[0], pair[0], pair[2]), (columns[1], pair[1], pair[3])):
        with column, st.container(border=True):
            st.markdown(f"**{catalogue.dataset_name(dataset)}, {catalogue.labels_name(dataset, labels)} labels**")
            if (dataset, labels) not in facts.index:
                st.markdown("One label an image: the original one.")
                st.caption(made.get((dataset, labels), ""))
                continue
            row = facts.loc[(dataset, labels)]
            n = int(row["n_images"])
            said = [
                f"{int(row['n_empty']):,} of {n:,} images without labels ({terms.percent(row['n_empty'] / n)})",
                f"original label inside for {terms.percent(row['n_original'] / n)} of the images",
                f"two labels or more for {terms.percent(row['n_several'] / n)} of them",
            ]
            st.markdown("\n".join(f"- {line}" for line in said), help=f"{terms.HELP['empty']} {terms.HELP['holds']}")
            st.caption(made.get((dataset, labels), ""))


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    chosen = choose(source, catalogue, view)
    if chosen is None:
        parts.head(QUESTION, "No set here has labels besides its original ones, so every image has one.")
        st.caption("Further labels of a set are imported with")
        st.code("bench import labels FILE --source NAME --dataset D", language="bash")
        return
    dataset, labels = chosen
    numbers = db.statistics(source)
    models = state.models(catalogue, view, dataset)
    name, labels_name = catalogue.dataset_name(dataset), catalogue.labels_name(dataset, labels)
    pairs = db.label_pairs(source)
    facts = sides(db.label_facts(source), dataset, labels, pairs)
    own = facts.iloc[0]
    metrics = db.label_metrics(source, dataset, labels, models)
    frame = db.label_accuracy(source, dataset, labels, models)
    singles = metrics.loc[(metrics["metric"] == "top1") & (metrics["method"] != "ensemble")]
    best = str(singles.loc[singles["value"].idxmax(), "name"]) if len(singles) else ""
    n, several = int(own["n_images"]), int(own["n_several"])
    other = n - int(own["n_empty"]) - int(own["n_original"])
    low, high = stats.wilson(several or other, n, numbers["confidence"])
    said = findings.several(name, labels_name, n, several, other, (float(low), float(high)))
    said += f" {findings.by_labels(frame.loc[frame['name'] == best], best)}"
    note = instead(catalogue, view, dataset, labels)
    if note:
        st.info(note, icon=":material/info:")
    parts.head(QUESTION, said.strip(), str(catalogue.datasets.at[dataset, "about"]))

    show_facts(source, catalogue, facts, numbers["confidence"])
    key = f"labels-{dataset}-{labels}"
    show_accuracies(metrics, frame, key, f"{name}, {labels_name} labels", numbers["confidence"])
    related = {(p[i], p[i + 2]) for p in pairs if (dataset, labels) in ((p[0], p[2]), (p[1], p[3])) for i in (0, 1)}
    show_histogram(source, catalogue, facts, related)
    if len(frame):
        correlation = db.label_correlation(source, dataset, labels, view.strat, models)
        show_by_labels(frame, correlation, view, key, best, int(own["most"]))
    if len(metrics):
        role = str(catalogue.datasets.at[dataset, "role"])
        show_line(metrics, dataset, labels, role, name, numbers, key)
        parts.remarks(catalogue, metrics["model"].drop_duplicates().tolist())
    pair = pick_pair(source, catalogue, view, dataset, labels)
    if pair is not None:
        show_gaps(source, catalogue, view, pair)


main()
