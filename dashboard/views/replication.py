"""Replication: what is lost on another set, and what the loss is made of (study 3)."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import streamlit as st

from bench import compute, stats
from dashboard import db, findings, gaps, parts, plots, state, terms
from dashboard.frames import Frame, records
from dashboard.gaps import Choice, Pair

QUESTION = "How much accuracy is lost on another set, and to what?"
SCORING = {"top1": "Original label only", "any_of": "Any label of the image"}
SAYS = {
    "replication": "a **replication**: collected later by the recipe of the original.",
    "shifted": "**shifted**, not a replication: the same concept, collected and processed by other people.",
    "control": "a **control** made here: the cause of its difference is known.",
    "composite": "**composed** here from real images.",
    "original": "an original of its own.",
}
OWN = "Definitions of this benchmark"
NUMBER = st.column_config.NumberColumn
PINNED = st.column_config.TextColumn(pinned=True, width=150)


def paired(pair: Pair, models: tuple[str, ...]) -> Frame:
    """One row a model: its accuracy with interval and n on both sets, the most accurate on the original first."""
    frame, _ = gaps.rows(pair, Choice("R0", "none", "", 1.0), models)
    if frame.empty:
        return frame
    confidence = db.statistics(pair.source)["confidence"]
    keep = frame[["model", "name", "family", "method"]]
    for side, which in (("x", "original"), ("y", "replication")):
        n = frame[f"n_{which}"].to_numpy()
        low, high = stats.wilson(np.round(frame[f"accuracy_{which}"] * n), n, confidence)
        columns = {"value": frame[f"accuracy_{which}"], "low": low, "high": high, "n": n}
        keep = keep.assign(**{f"{name}_{side}": values for name, values in columns.items()})
    return keep.sort_values(["value_x", "model"], ascending=[False, True], ignore_index=True)


@st.cache_data(max_entries=64, show_spinner=False)
def line_of(x: tuple[float, ...], y: tuple[float, ...], n: int, scale: stats.Scale, draws: int) -> stats.Line | None:
    """The line over the models with its band; None for fewer than three models."""
    try:
        return stats.fit_line(x, y, compute.rng("replication line"), scale=scale, n=n, draws=draws)
    except ValueError:
        return None


def choose(source: db.Source, catalogue: db.Catalogue, view: state.View) -> Pair | None:
    """The original, the set held against it, the scoring and the class; controls for them. None without any pair."""
    pairs = {one: catalogue.held_against(one) for one in catalogue.datasets.index}
    pairs = {one: others for one, others in pairs.items() if others}
    if not pairs:
        return None
    own = str(catalogue.datasets.at[view.dataset, "replicates"])
    original = view.dataset if view.dataset in pairs else own if own in pairs else next(iter(pairs))
    first = view.dataset if view.dataset in pairs[original] else pairs[original][0]
    against = view.against if view.against in pairs[original] else first
    scorings = db.scorings(source, original, against) or ["top1"]
    scoring = view.scoring if view.scoring in scorings else scorings[0]
    a, b, c = st.columns([2, 1.4, 1.2])
    with a:
        state.bound(
            st.selectbox,
            f"Held against {catalogue.dataset_name(original)}",
            "against",
            value=first,
            options=pairs[original],
            format_func=catalogue.dataset_name,
            help="; ".join(f"{terms.ROLE[role]}: {terms.HELP[terms.ROLE[role]]}" for role in ("shifted", "control")),
        )
    with b:
        if len(scorings) > 1:
            state.bound(
                st.selectbox,
                "What counts as right",
                "scoring",
                value=scorings[0],
                options=scorings,
                format_func=SCORING.get,
                help="Where an image has several labels, any of them may count as right.",
            )
    names = catalogue.class_names(original)
    label = view.label if view.label and int(view.label) in names and db.has_images(source) else ""
    with c:
        if db.has_images(source):
            state.bound(
                st.selectbox,
                "Images of the class",
                "label",
                value="",
                options=["", *map(str, names)],
                format_func=lambda k: "All" if k == "" else names[int(k)],
                help="Only images whose original label this is, on both sets; every figure is made anew.",
            )
    return Pair(source, original, against, scoring, label)


def choose_uncertainty(pair: Pair, catalogue: db.Catalogue, view: state.View) -> tuple[str, str]:
    """The measure of uncertainty and whose it is; controls for them."""
    known = gaps.measures(pair)
    if not known:
        return "", ""
    measure = view.measure if view.measure in known else known[0]
    a, b = st.columns([1.2, 1.2])
    with a:
        state.bound(
            st.selectbox,
            "Measure of uncertainty",
            "measure",
            value=known[0],
            options=known,
            format_func=lambda one: terms.MEASURE.get(one, terms.AGREE),
            help=f"{terms.HELP['measure']} {terms.AGREE} is the share of them that does not give their most frequent "
            "answer: it needs nothing but answers.",
        )
    if measure == terms.AGREEMENT:
        return measure, gaps.POOL
    owners = gaps.measured(pair, measure)
    if not gaps.live(pair):
        stored = db.gap_choices(pair.source, pair.original, pair.other)
        owners = stored.loc[stored["uncertainty"] == measure, "uncertainty_of"].unique().tolist()
    methods = catalogue.models.set_index("model")["method"]
    owners = sorted((one for one in owners if one in methods.index), key=lambda m: (methods[m] != "ensemble", m))
    own = [] if measure == "mutual_information" else ["self"]
    options = [*own, *owners]
    whose = view.whose if view.whose in options else options[0]
    with b:
        state.bound(
            st.selectbox,
            "Uncertainty of",
            "whose",
            value=options[0],
            options=options,
            format_func=lambda one: "Each model itself" if one == "self" else catalogue.model_name(one),
            help=terms.HELP["whose"],
        )
    return measure, whose


def answer(pair: Pair, catalogue: db.Catalogue, everything: Frame, best: str) -> str:
    """What the best model loses, and how many others do."""
    name, other = catalogue.dataset_name(pair.original), catalogue.dataset_name(pair.other)
    said = findings.gap(everything, best, name, other)
    if not said:
        return f"None of the chosen models was run on both {name} and {other}."
    if pair.label:
        said += f" Images of class {catalogue.class_names(pair.original)[int(pair.label)]} only."
    if pair.scoring != "top1":
        said += f" Counted as right: {SCORING[pair.scoring].lower()}."
    return said


def made_of(catalogue: db.Catalogue, everything: Frame, best: str, parted: Frame, measure: str) -> str:
    """What the gap of the best model is made of, and what labels have to do with it; empty where that is not known."""
    said = []
    row = parted.loc[parted["model"] == best] if len(parted) else parted
    if len(row):
        doubt = "images of which it is unsure"
        if measure == terms.AGREEMENT:
            doubt = "images on which the other models disagree"
        said.append(f"{catalogue.model_name(best)}. {findings.parts(row.iloc[0], doubt)}")
    term = everything.loc[everything["model"] == best] if len(everything) else everything
    if len(term) and np.isfinite(term["label_pp"].iloc[0]):
        value, low, high = term[["label_pp", "label_low", "label_high"]].iloc[0]
        verb, off = ("takes", "off") if value >= 0 else ("adds", "to")
        value, low, high = (value, low, high) if value >= 0 else (-value, -high, -low)
        size = terms.points(value, low, high) if np.isfinite(low) else terms.points(value)
        said.append(f"Scoring by any label of an image {verb} {size} {off} the gap by the original label.")
    return " ".join(said)


def show_parts(pair: Pair, catalogue: db.Catalogue, parted: Frame, top1: Frame, measure: str) -> None:
    """The parts of the gap of every model."""
    st.subheader("What the gap is made of", anchor=False, help=terms.HELP["decomposition"])
    if parted.empty:
        st.caption(missing(pair, catalogue, measure))
        return
    frame = parted.rename(columns={"ci_low": "gap_low", "ci_high": "gap_high"})
    panels = [("composition", "Composition"), ("within", "Within")]
    if pair.scoring == "any_of" and len(top1):
        whole = top1.set_index("model")[["gap_pp", "ci_low", "ci_high"]].reindex(frame["model"])
        frame = frame.assign(**dict(zip(("total_pp", "total_low", "total_high"), whole.to_numpy().T, strict=True)))
        panels = [("total", "Gap by the original label"), *panels, ("label", "Labels")]
        sums = "Gap by the original label = composition + within (by any label) + labels."
    else:
        panels = [("gap", "Gap"), *panels]
        sums = "Gap = composition + within."
    what = terms.MEASURE.get(measure, terms.AGREE).lower()
    st.caption(
        f"{sums} {OWN}: bins of equal size on the original, by {what}. Composition says that a model knows of its "
        "doubt, not why it has it: blurred images and ambiguous ones both leave it unsure."
    )
    parts.figure(
        plots.decomposition(frame, panels, "percentage points"),
        frame.drop(columns=["method", "ssl_family", "arch"]),
        f"parts-{pair.original}-{pair.other}-{pair.scoring}-{measure}",
        f"The gap of {len(frame)} models and its parts, with intervals",
    )
    if frame["within_low"].isna().all():
        st.caption(too_many(pair))


def missing(pair: Pair, catalogue: db.Catalogue, measure: str) -> str:
    """Why there are no rows, in words."""
    name, other = catalogue.dataset_name(pair.original), catalogue.dataset_name(pair.other)
    if gaps.earlier(pair):
        return "These results were made before gaps were taken apart: they hold the gap over all images only."
    if not gaps.measures(pair):
        return (
            f"The models of {name} and {other} are known by their answers alone, and they are too few to tell by their "
            "agreement which images are uncertain: at least four are needed."
        )
    if measure == terms.AGREEMENT:
        return f"Too few models answered to both {name} and {other} to tell by their agreement."
    return "No model shown has this uncertainty on both sets."


def too_many(pair: Pair) -> str:
    """A sentence where intervals were left out."""
    coverages = db.gap_choices(pair.source, pair.original, pair.other)["coverage_q"]
    stored = ", ".join(f"{100 * q:g}" for q in sorted({*coverages} - {1.0}))
    said = f" Coverages with stored intervals: {stored} %." if stored else ""
    return f"Without intervals: this choice is not stored, and there are too many answers to resample at once.{said}"


def first_of(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def choose_rule(pair: Pair, view: state.View, measure: str, whose: str) -> Choice | None:
    """The rule and its coverage; controls for them. None where there is no uncertainty to choose by."""
    if not measure:
        return None
    by_answers = measure == terms.AGREEMENT
    options = ["R0", "R4"] if by_answers else ["R0", "R1", "R2", "R3", "R4", "R5"]
    if whose == gaps.POOL or measure == "mutual_information":
        options = [one for one in options if one != "R4" or by_answers]
    first = "R4" if by_answers else "R1"
    state.bound(
        st.segmented_control,
        "Which images are compared",
        "rule",
        value=first,
        options=options,
        format_func=terms.RULE.get,
        required=True,
        help=terms.HELP["rule"],
    )
    rule = view.rule if view.rule in options else first
    if by_answers or rule == "R0":
        return Choice(rule, measure, whose, 1.0)
    stored = db.gap_choices(pair.source, pair.original, pair.other)["coverage_q"]
    shares = state.COVERAGES if gaps.live(pair) else [f"{100 * q:g}" for q in sorted(set(stored) - {1.0})]
    coverage = view.coverage if view.coverage in shares else shares[0]
    state.bound(
        st.select_slider,
        "Share of the original that is kept",
        "coverage",
        value=coverage,
        options=shares,
        format_func=lambda share: f"{share} %",
        help=terms.HELP["keep"],
        width=520,
    )
    return Choice(rule, measure, whose, float(coverage) / 100)


def counts_of(pair: Pair, choice: Choice, frame: Frame, everything: Frame) -> Frame:
    """How many of the models have a smaller gap under the rule; the interval of the median where all are shown."""
    alone = frame.loc[frame["method"] != "ensemble"].set_index("model")
    before = everything.set_index("model").reindex(alone.index)
    shrink = before["gap_pp"] - alone["gap_pp"]
    ratio = alone["error_ratio"] - before["error_ratio"]
    up, down = int((shrink > 1e-9).sum()), int((shrink < -1e-9).sum())
    counts = {
        "n_models": len(shrink),
        "n_shrinks": up,
        "n_ratio": int(ratio.notna().sum()),
        "n_ratio_falls": int((ratio < -1e-9).sum()),
        "p_sign": float(stats.sign_test(up, down)),
        "median_shrink_pp": float(shrink.median()) if len(shrink) else 0.0,
        "ci_low": float("nan"),
        "ci_high": float("nan"),
    }
    if not pair.label:
        whose = gaps.POOL if choice.rule == "R4" else choice.whose
        key = (pair.scoring, choice.rule, choice.measure, whose, choice.coverage)
        stored = db.shrinkage(pair.source, pair.original, pair.other, *key)
        stored = stored.loc[(stored["family"] == "all") & (stored["n_models"] == len(shrink))]
        if len(stored):
            counts |= stored.iloc[0][["ci_low", "ci_high"]].to_dict()
    return pd.Series(counts)


def by_family(pair: Pair, choice: Choice, frame: Frame) -> str:
    """For how many models of each family the gap is smaller; empty where not all models are shown."""
    if pair.label:
        return ""
    whose = gaps.POOL if choice.rule == "R4" else choice.whose
    key = (pair.scoring, choice.rule, choice.measure, whose, choice.coverage)
    stored = db.shrinkage(pair.source, pair.original, pair.other, *key)
    alone = frame.loc[frame["method"] != "ensemble", "family"].value_counts()
    stored = stored.loc[stored["family"] != "all"]
    if len(stored) < 2 or any(alone.get(row.family, 0) != row.n_models for row in records(stored)):
        return ""
    said = [
        f"{terms.FAMILY[row.family]} {row.n_shrinks} of {row.n_models}, "
        f"{terms.points(row.median_shrink_pp, row.ci_low, row.ci_high, sign=True)}"
        for row in records(stored)
    ]
    return f"Smaller for, and by how much for the median model: {'; '.join(said)}."


def where(choice: Choice, name: str, pool_share: float) -> str:
    """The images of a rule, at the start of a sentence; `pool_share`: of the other models, under R4."""
    pool = f"{100 * pool_share:g} % of the other models"
    share = f"{100 * choice.coverage:g} %"
    return {
        "R1": f"On images at least as certain as the surest {share} of {name}",
        "R2": f"On the surest {share} of each set",
        "R3": f"With the uncertainty of both sets matched, among images like the surest {share} of {name}",
        "R4": f"On images on which at least {pool} agree"
        if choice.measure == terms.AGREEMENT
        else f"On images that at least {pool} count among their surest {share} of {name}, or as sure as those",
    }[choice.rule]


def show_rule(pair: Pair, catalogue: db.Catalogue, choice: Choice, models: tuple[str, ...], everything: Frame) -> Frame:
    """The gap of every model under the rule, how it goes with coverage, and what to mind; the rows behind it."""
    name, other = catalogue.dataset_name(pair.original), catalogue.dataset_name(pair.other)
    frame, _ = gaps.rows(pair, choice, models)
    if frame.empty:
        fixed = choice.rule == "R0" or choice.measure == terms.AGREEMENT
        share = "" if fixed else f" at {100 * choice.coverage:g} %"
        advice = "" if fixed else "Keep a larger share, or choose another measure."
        st.info(
            f"Nothing to compare under “{terms.RULE[choice.rule]}”{share}: it keeps no image of {other}, or none of "
            f"these models has this uncertainty. {advice}",
            icon=":material/info:",
        )
        if choice.rule != "R0":
            show_sweep(pair, choice, models, name)
        return frame
    left = everything.loc[~everything["model"].isin(frame["model"]), "name"]
    if len(left):
        st.caption(f"Without {first_of(left.tolist())}: the rule keeps no image, or the uncertainty is not known.")
    if choice.rule in ("R1", "R2", "R3", "R4"):
        counts = counts_of(pair, choice, frame, everything)
        kept = frame[["coverage_original", "coverage_replication"]].median()
        images = where(choice, name, db.protocol(pair.source)[0].pool_share)
        st.markdown(
            f"{findings.shrinks(counts, images)} That keeps {terms.percent(kept.iloc[0])} of {name} and "
            f"{terms.percent(kept.iloc[1])} of {other}{' (median model)' if len(frame) > 1 else ''}.",
            help=terms.HELP["shrinks"],
        )
        families = by_family(pair, choice, frame)
        if families:
            st.caption(families)
        warning = findings.saturation(counts, float(frame["accuracy_original"].median()), name)
        if warning:
            st.info(warning, icon=":material/warning:")
        lone = frame[["classes_original", "classes_replication"]].eq(1).fillna(False).any(axis=1)
        single = frame.loc[lone, "name"]
        if len(single) and not pair.label:
            st.info(
                f"For {first_of(single.tolist())}, the images kept of a set are of a single class: nothing is told of "
                "the others.",
                icon=":material/warning:",
            )
    if choice.rule != "R0":
        show_sweep(pair, choice, models, name)
    if choice.rule == "R5":
        st.caption(
            f"Split in two, the surest {100 * choice.coverage:g} % of {name} and the images like them, and the rest: "
            "composition and within below are those of two bins. The figure above has more of them."
        )
        show_quadrants(pair, catalogue, choice, models, everything)
        return frame
    beside, called = frame.head(0), ""
    if choice.rule == "R0":
        halves = catalogue.null_halves()
        beside = db.gaps(pair.source, *halves, "top1", models) if halves else beside
        called = "Null halves (chance)"
    elif frame["placebo_gap_pp"].notna().any():
        columns = {"placebo_gap_pp": "gap_pp", "placebo_low": "ci_low", "placebo_high": "ci_high"}
        keep = ["name", "family", "n_original", "n_replication", *columns]
        beside, called = frame.loc[frame["placebo_gap_pp"].notna(), keep].rename(columns=columns), "As many at random"
    role = str(catalogue.datasets.at[pair.other, "role"])
    parts.figure(
        plots.gaps(frame, beside, role, f"Gap between {name} and {other} on these images, percentage points", called),
        frame.drop(columns=["method", "ssl_family", "arch"]),
        f"gaps-{pair.original}-{pair.other}-{pair.scoring}-{choice.rule}",
        f"Gap of {len(frame)} models with intervals, and of as many images at random",
    )
    if frame["ci_low"].isna().all():
        st.caption(too_many(pair))
    return frame


def show_sweep(pair: Pair, choice: Choice, models: tuple[str, ...], name: str) -> None:
    """The gap at every coverage of the rule."""
    with st.spinner("Comparing at every coverage"):
        frame = gaps.sweep(pair, choice, models)
    if choice.rule == "R5" and len(frame):  # at 100 % it is that of all bins
        frame = frame.loc[frame["coverage"] < 1].assign(gap_pp=frame["within_pp"])
    if frame.empty:
        return
    some = most_accurate(frame)
    title = "Within of two bins, pp" if choice.rule == "R5" else "Gap, percentage points"
    agreed = choice.measure == terms.AGREEMENT
    kept = f"Share of {name} that is kept" + (", the most agreed first" if agreed else ", the surest first")
    parts.figure(
        plots.gap_sweep(some, kept, title, None if agreed else choice.coverage),
        frame.drop(columns=["method", "ssl_family", "arch"], errors="ignore"),
        f"gap-sweep-{pair.original}-{pair.other}-{pair.scoring}-{choice.rule}",
        f"Gap of {some['name'].nunique()} models against the share of {name} that is kept",
    )


def most_accurate(frame: Frame) -> Frame:
    """At most as many models as a figure of lines can show."""
    names = frame["name"].drop_duplicates()
    if len(names) <= 4 * state.MOST:
        return frame
    full = frame.sort_values("coverage").groupby("name")["accuracy_original"].last()
    st.caption(f"The {4 * state.MOST} most accurate of {len(names)} models. Choose others under Models.")
    return frame.loc[frame["name"].isin(full.nlargest(4 * state.MOST).index)]


def show_quadrants(
    pair: Pair, catalogue: db.Catalogue, choice: Choice, models: tuple[str, ...], everything: Frame
) -> None:
    """Certain or not, right or wrong: how many images of each set, for every model."""
    certain, _ = gaps.rows(pair, Choice("R1", choice.measure, choice.whose, choice.coverage), models)
    whole = everything.set_index("model")
    rows = []
    for row in records(certain):
        line: dict[str, object] = {"Model": row.name}
        for side in ("original", "replication"):
            short = "original" if side == "original" else "other"
            n, k = (int(getattr(row, f"n_{side}")), round(getattr(row, f"n_{side}") * getattr(row, f"accuracy_{side}")))
            total = int(whole.at[row.model, f"n_{side}"])
            right = round(total * whole.at[row.model, f"accuracy_{side}"])
            cells = {"certain, right": k, "certain, wrong": n - k}
            cells |= {"unsure, right": right - k, "unsure, wrong": total - n - right + k}
            line |= {f"{cell} ({short}), %": 100 * count / total for cell, count in cells.items()}
        rows.append(line)
    if rows:
        frame = pd.DataFrame(rows)
        config = {column: NUMBER(format="%.1f", help=terms.HELP["quadrants"]) for column in frame.columns[1:]}
        parts.table(
            frame,
            f"quadrants-{pair.original}-{pair.other}-{pair.scoring}",
            config | {"Model": PINNED},
            alt="Images of each set that are certain or not, right or wrong, for every model",
        )


def show_table(pair: Pair, catalogue: db.Catalogue, frame: Frame, everything: Frame, reference: Frame) -> None:
    """All figures of every model under the rule, with its places on both sets."""
    models = tuple(frame["model"])
    ranks = {}
    for dataset in (pair.original, pair.other):
        source = gaps.label_source(pair.source, dataset, pair.scoring)
        found = db.accuracies(pair.source, "all", source, models)
        found = found.loc[found["dataset"] == dataset].set_index("model")
        shared = found["rank"].duplicated(keep=False)
        ranks[dataset] = {
            model: "" if pd.isna(rank) else f"{'=' if tied else ''}{int(rank)}"
            for model, rank, tied in zip(found.index, found["rank"], shared, strict=True)
        }
    before = everything.set_index("model")["gap_pp"]
    by_reference = reference.set_index("model")["gap_pp"] if len(reference) else None
    shown = pd.DataFrame(
        {
            "Model": frame["name"],
            "Family": frame["family"].map(terms.FAMILY),
            "Gap, pp": frame["gap_pp"],
            "From": frame["ci_low"],
            "To": frame["ci_high"],
            "Place": None if pair.label else frame["model"].map(ranks[pair.original]),
            "Place on the other": None if pair.label else frame["model"].map(ranks[pair.other]),
            "Kept, %": 100 * frame["coverage_original"],
            "Kept of the other, %": 100 * frame["coverage_replication"],
            "Error ratio": frame["error_ratio"],
            "Logit gap": frame["logit_gap"],
            "At random, pp": frame["placebo_gap_pp"],
            "By the reference, pp": None if by_reference is None else frame["model"].map(by_reference),
            "Over all images, pp": frame["model"].map(before),
            "Composition, pp": frame["composition_pp"],
            "Within, pp": frame["within_pp"],
            "Labels, pp": frame["label_pp"],
            "Accuracy, %": 100 * frame["accuracy_original"],
            "On the other, %": 100 * frame["accuracy_replication"],
            "n original": frame["n_original"],
            "n other": frame["n_replication"],
        }
    ).dropna(axis=1, how="all")
    about = {
        "Gap, pp": "gap",
        "From": "interval",
        "To": "interval",
        "Over all images, pp": "gap",
        "Composition, pp": "composition",
        "Within, pp": "within",
        "Labels, pp": "label_term",
        "Accuracy, %": "kept",
        "On the other, %": "kept",
        "Kept, %": "kept",
        "Kept of the other, %": "kept",
        "Error ratio": "error_ratio",
        "Logit gap": "logit_gap",
        "At random, pp": "placebo",
        "By the reference, pp": "reference",
    }
    two = ("Error ratio", "Logit gap")
    config = {
        column: NUMBER(format="%.2f" if column in two else "%.1f", help=terms.HELP[term])
        for column, term in about.items()
    }
    config |= {
        column: st.column_config.TextColumn(help=terms.HELP["place"]) for column in ("Place", "Place on the other")
    }
    parts.table(
        shown,
        f"gaps-{pair.original}-{pair.other}-{pair.scoring}",
        config | {"Model": PINNED},
        alt="Gap of each model, with coverage, error ratio and places",
    )


def show_scatter(pair: Pair, catalogue: db.Catalogue, view: state.View, both: Frame, models: tuple[str, ...]) -> None:
    """Accuracy on the other set against that on the original, the line, and who stands above it."""
    name, other = catalogue.dataset_name(pair.original), catalogue.dataset_name(pair.other)
    st.subheader(f"{other} against {name}", anchor=False, help=f"{terms.HELP['logit']} {terms.HELP['line']}")
    state.bound(
        st.segmented_control,
        "Axes",
        "axis",
        options=list(terms.AXIS),
        format_func=terms.AXIS.get,
        required=True,
        help=terms.HELP["axis"],
    )
    scale = cast(stats.Scale, view.axis)
    single = both.loc[both["method"] != "ensemble"]
    n = (int(both["n_x"].iloc[0]), int(both["n_y"].iloc[0]))
    draws = int(db.statistics(pair.source)["bootstrap"])
    line = line_of(tuple(single["value_x"]), tuple(single["value_y"]), n[0], scale, draws)
    role = str(catalogue.datasets.at[pair.other, "role"])
    parts.figure(
        plots.replication(both, line, role, name, other, scale),
        both.drop(columns="method"),
        f"{pair.other}-against-{pair.original}-{pair.scoring}",
        f"Accuracy on {other} against accuracy on {name} for {len(both)} models",
    )
    if line is None:
        st.caption("A line needs at least three models with different accuracies.")
    else:
        st.caption(
            f"All images, {SCORING[pair.scoring].lower()}. The line is fitted to {line.n} models (ensembles left out); "
            f"its slope on these axes is {line.slope:.2f} [{line.slope_low:.2f}, {line.slope_high:.2f}]. The band "
            "comes from resampling models: it says how the line depends on which models there are, no more."
        )
    with st.spinner("Resampling the images of both sets"):
        robust = gaps.robustness(pair, view.axis, models)
    st.markdown("**Who stands above the line of the others**", help=terms.HELP["robustness"])
    if robust.empty:
        st.caption("Effective robustness needs at least four models besides ensembles.")
        return
    if not gaps.live(pair) and set(models) != set(gaps.answering(pair)):
        st.caption("This snapshot holds no rows of single images: the line is that of all models, not of those shown.")
    shown = robust.rename(columns={"value_pp": "gap_pp"}).assign(n_original=n[0], n_replication=n[1])
    parts.figure(
        plots.gaps(
            shown,
            shown.head(0),
            role,
            "Effective robustness, percentage points: right of zero, above the line",
            largest_first=True,
        ),
        robust.drop(columns=["method", "ssl_family", "arch"]),
        f"robustness-{pair.original}-{pair.other}-{pair.scoring}-{view.axis}",
        f"Effective robustness of {len(robust)} models with intervals",
    )


def show_contrasts(pair: Pair, catalogue: db.Catalogue, models: tuple[str, ...], n: int) -> None:
    """Self-supervised against supervised models of the same architecture."""
    frame = gaps.contrasts(pair, models)
    if frame.empty:
        return
    other = catalogue.dataset_name(pair.other)
    st.subheader("Self-supervised against supervised", anchor=False, help=terms.HELP["contrast"])
    names = [catalogue.model_name(model) for model in frame["model"]]
    against = [catalogue.model_name(model) for model in frame["baseline"]]
    kind = frame["ssl_family"].map(terms.SSL_FAMILY).fillna("unknown family")
    said = [findings.verdict(low, high) for low, high in zip(frame["ci_low"], frame["ci_high"], strict=True)]
    words = {"more": "lose more", "less": "lose less", "tied": "cannot be told apart"}
    tally = ", ".join(f"{said.count(key)} {word}" for key, word in words.items() if key in said)
    st.markdown(
        f"Of {len(frame)} self-supervised models with a supervised one of the same architecture, {tally} on {other}."
    )
    shown = frame.assign(
        name=[f"{a} against {b} ({k})" for a, b, k in zip(names, against, kind, strict=True)],
        dataset_name=other,
        role=str(catalogue.datasets.at[pair.other, "role"]),
        delta_pp=frame["gap_pp"],
        n=n,
    )
    parts.figure(
        plots.differences(shown, "Difference of the gaps, percentage points: left of zero, self-supervised loses less"),
        frame,
        f"contrasts-{pair.original}-{pair.other}-{pair.scoring}",
        f"Difference of gaps of {len(frame)} pairs of models with intervals",
    )
    columns = {"Gap": ("gap_pp", "ci_low", "ci_high")}
    columns |= {
        p.capitalize(): (f"{p}_pp", f"{p}_low", f"{p}_high") for p in ("composition", "within") if p + "_pp" in frame
    }
    table = pd.DataFrame({"Self-supervised": names, "Family": kind, "Supervised": against})
    for title, (value, low, high) in columns.items():
        table = table.assign(
            **{f"{title}, pp": frame[value], f"{title}, from": frame[low], f"{title}, to": frame[high]}
        )
    table = table.dropna(axis=1, how="all")
    about = {"Gap": "contrast", "Composition": "composition", "Within": "within"}
    config = {c: NUMBER(format="%+.1f", help=terms.HELP[about[c.split(",")[0]]]) for c in table.columns[3:]}
    parts.table(
        table,
        f"contrasts-{pair.original}-{pair.other}-{pair.scoring}",
        config | {"Self-supervised": PINNED},
        alt="Difference of gaps between self-supervised and supervised models of one architecture, and its parts",
    )


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    top = st.container()
    pair = choose(source, catalogue, view)
    if pair is None:
        with top:
            parts.head(QUESTION, "No set here is held against another.")
        return
    measure, whose = choose_uncertainty(pair, catalogue, view)
    models = tuple(model for model in state.models(catalogue, view, pair.original) if model in gaps.answering(pair))
    everything, _ = gaps.rows(pair, Choice("R0", "none", "", 1.0), models)
    both = paired(pair, models)
    single = both.loc[both["method"] != "ensemble"] if len(both) else both
    best = str(single["model"].iloc[0]) if len(single) else ""
    parted = gaps.rows(pair, Choice("R5", measure, whose, 1.0), models)[0] if measure and models else everything.head(0)
    lone = Pair(pair.source, pair.original, pair.other, "top1", pair.label)
    top1 = gaps.rows(lone, Choice("R0", "none", "", 1.0), models)[0] if pair.scoring == "any_of" else everything
    with top:
        parts.head(QUESTION, answer(pair, catalogue, everything, best))
        composed = made_of(catalogue, everything, best, parted, measure)
        if composed:
            st.markdown(composed, help=f"{terms.HELP['decomposition']} {terms.HELP['label_term']}")
        role = str(catalogue.datasets.at[pair.other, "role"])
        st.markdown(f"{catalogue.datasets.at[pair.other, 'title']} is {SAYS[role]}", help=terms.HELP[terms.ROLE[role]])
        st.caption(str(catalogue.datasets.at[pair.other, "about"]))
        lacking(pair, catalogue, state.models(catalogue, view, pair.original))
    if everything.empty:
        return
    parts.remarks(catalogue, everything["model"].tolist())
    show_parts(pair, catalogue, parted, top1, measure)
    unknown = everything.loc[~everything["model"].isin(parted["model"]), "name"] if len(parted) else everything.head(0)
    if len(unknown):
        them = "it" if len(unknown) == 1 else "them"
        st.caption(f"Without {first_of(unknown.tolist())}: this uncertainty is not known of {them}.")
    st.subheader("The gap on images of like certainty", anchor=False, help=terms.HELP["rule"])
    if measure == terms.AGREEMENT:
        st.caption(
            "The other rules sort the images of each model by its confidence, which is not known of these models: only "
            "their answers are. Agreement of the other models takes its place."
            if gaps.measures(pair) == [terms.AGREEMENT]
            else "The other rules need a measure of uncertainty of one model."
        )
    choice = choose_rule(pair, view, measure, whose) or Choice("R0", "none", "", 1.0)
    frame = show_rule(pair, catalogue, choice, models, everything)
    reference = frame.head(0)
    ensembles = db.protocol(source)[1]
    if choice.rule in ("R1", "R2", "R3") and choice.whose == "self" and ensembles:
        reference, _ = gaps.rows(pair, Choice(choice.rule, measure, next(iter(ensembles)), choice.coverage), models)
    if len(frame):
        show_table(pair, catalogue, frame, everything, reference)
    show_scatter(pair, catalogue, view, both, models)
    show_contrasts(pair, catalogue, models, int(everything["n_replication"].max()))
    parts.strip(source, view, pair.other)


def lacking(pair: Pair, catalogue: db.Catalogue, models: tuple[str, ...]) -> None:
    """Says which of the chosen models answered to the original alone."""
    names = [catalogue.model_name(model) for model in models if model not in gaps.answering(pair)]
    if names:
        other = catalogue.dataset_name(pair.other)
        st.caption(f"Without {first_of(names)}: no answers to {other}.")


main()
