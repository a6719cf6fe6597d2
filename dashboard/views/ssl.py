"""SSL: self-supervised against supervised, where both are seen under the same conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from bench import stats
from bench.evaluate.correctness import CLEAN
from bench.studies import ssl as study
from dashboard import db, findings, parts, plots, state, terms
from dashboard.frames import Frame, records

SIMULATED = "simulated"
"""What wrong labels are called that nobody gave."""


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
    contrast = finding(source, catalogue, view)
    parts.head(
        "Are self-supervised models as accurate and as robust as supervised ones?",
        contrast or said or lacking(catalogue, view),
    )
    if contrast and said:
        st.markdown(said)
    control = against_control(source, catalogue, models)
    if control:
        st.markdown(control, help=f"{terms.HELP['linear']} {terms.HELP['families']}")
    if clean.empty:
        return
    pick("Section", "ssl", terms.SSL, label_visibility="collapsed")
    sets = related(catalogue, dataset)
    match view.ssl:
        case "backbones":
            backbones(source, catalogue, models, sets)
            side_by_side(catalogue, frame, sets)
        case "corruption":
            corrupted(source, catalogue, models, view)
            errors(source, catalogue, models, dataset)
        case "attack":
            attacked(source, catalogue, models)
        case "few":
            few_labels(source, models, view)
        case "wrong":
            wrong_labels(source, models, catalogue.original_of(dataset))
        case "calibration":
            calibrated(source, models, dataset)
        case "training":
            trainings(source, catalogue, models, dataset)
        case _:
            contrasts(source, catalogue, models, view)
    parts.strip(source, view, dataset, str(best["ssl"].model) if "ssl" in best else "")


def pick(label: str, field: str, names: Mapping[str, str], **more: Any) -> str:
    """One of `names` (value -> what it is called), by default the first."""
    return state.picked(label, field, names, st.segmented_control, required=True, **more)


def conditions(catalogue: db.Catalogue, found: list[str]) -> dict[str, str]:
    """Condition -> its name: clean, all corruptions, attacks from weak to strong, each corruption."""
    ranks = {CLEAN: 0, "corruption": 1, "attack": 2}

    def place(condition: str) -> tuple[int, str, float]:
        kind, *rest = condition.split(":")
        rank = 3 if kind == "corruption" and rest else ranks[kind]
        return rank, rest[0] if rest else "", float(rest[1]) if rank == 2 else 0

    return {one: terms.condition_name(one, catalogue.attacks) for one in sorted(found, key=place)}


def finding(source: db.Source, catalogue: db.Catalogue, view: state.View) -> str:
    """What the contrast says of the chosen set, against the closest supervised networks that there are."""
    frame = db.ssl_families(source, view.dataset)
    frame = frame.loc[frame["family"] == "all"]
    kind = next((one for one in terms.AGAINST if (frame["against"] == one).any()), "")
    names = conditions(catalogue, frame["condition"].unique().tolist())
    words = {"same_views": "of the same architecture, data and views", "same_arch": "of the same architecture"}
    inside = {one: name if one.startswith("attack") else "corruption" for one, name in names.items()}
    return findings.contrast(
        frame.loc[frame["against"] == kind], catalogue.dataset_name(view.dataset), words.get(kind, ""), inside
    )


def contrasts(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...], view: state.View) -> None:
    """Self-supervised minus supervised networks, family by family and pair by pair, under every condition."""
    frame = db.ssl_families(source, view.dataset)
    if frame.empty:
        st.caption(
            "No network that was trained here without labels has a supervised one of its architecture beside it, so "
            "there is no contrast of this set. Choose a set on which such networks were trained."
        )
        return
    left, right = st.columns(2)
    with left:
        pick("Compared are", "contrast", terms.CONTRAST, help=terms.HELP["both_right"])
    known = {one: name for one, name in terms.AGAINST.items() if (frame["against"] == one).any()}
    with right:
        beside = pick("With supervised networks of the", "beside", known, help=terms.HELP["views"])
    shown = frame.loc[(frame["measure"] == view.contrast) & (frame["against"] == beside)]
    st.subheader("Self-supervised minus supervised", anchor=False, help=terms.HELP["contrast"])
    if shown.empty:
        st.caption("There is no condition besides the clean images here.")
        return
    names = conditions(catalogue, shown["condition"].unique().tolist())
    order = list(names)
    families = ["all", *(one for one in terms.SSL_FAMILY if one in set(shown["family"]))]
    titles = {"all": "All methods"} | {one: terms.SSL_FAMILY[one].capitalize() for one in families[1:]}
    shown = shown.assign(
        name=shown["condition"].map(names),
        group=shown["family"].map(titles),
        about=[
            f"{row.n_better} of {row.n_ssl} self-supervised networks better than {row.n_supervised} supervised"
            for row in records(shown)
        ],
    )
    shown = shown.iloc[
        np.lexsort((shown["condition"].map(order.index), shown["family"].map(families.index)))
    ].reset_index(drop=True)
    parts.figure(
        plots.contrasts(shown, "Self-supervised minus supervised, percentage points"),
        shown.drop(columns=["name", "group", "about"]),
        "contrast",
        "Mean difference of self-supervised and supervised networks under each condition",
    )
    pairs = db.ssl_pairs(source, view.dataset, view.contrast, models)
    pairs = pairs.loc[pairs["condition"].isin(order)]
    if beside == "same_views":
        pairs = pairs.loc[pairs["same_views"]]
    if pairs.empty:
        return
    called = catalogue.names
    pairs = pairs.assign(order=pairs["condition"].map(order.index)).sort_values(["order", "model", "baseline"])
    table = pd.DataFrame(
        {
            "Condition": pairs["condition"].map(names),
            "Self-supervised": pairs["model"].map(called),
            "Supervised": pairs["baseline"].map(called),
            **tested(pairs),
        }
    )
    st.subheader(
        "Pair by pair", anchor=False, help="Over the same images; p adjusted by Holm over the pairs of one condition."
    )
    parts.table(table, "contrast-pairs", differing(), alt="Self-supervised minus supervised, pair by pair")


def tested(pairs: Frame) -> dict[str, Any]:
    """The columns of a table of pairs that say their differences (delta_pp, ci_low, ci_high, p_holm, n)."""
    return {
        "Difference, pp": pairs["delta_pp"].round(1),
        "From": pairs["ci_low"].round(1),
        "To": pairs["ci_high"].round(1),
        "p (Holm)": [f"{p:.4f}" if p >= 0.0001 else "< 0.0001" for p in pairs["p_holm"]],
        "n": pairs["n"],
    }


def differing() -> dict[str, Any]:
    """How the columns of `tested` are shown."""
    number = st.column_config.NumberColumn
    ends = ("Difference, pp", "From", "To")
    return {one: number(format="%.1f", help=terms.HELP["interval"]) for one in ends}


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
            **tested(pairs),
        }
    )
    config = differing() | {"p (Holm)": st.column_config.TextColumn(help=terms.HELP["place"])}
    parts.table(shown, "matched-backbones", config, alt="Self-supervised minus supervised")


def corrupted(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...], view: state.View) -> None:
    """Accuracy by severity of one corruption."""
    known = [one for one in catalogue.corruptions if not db.under(source, "corruption", one, models).empty]
    if not known:
        st.caption("No corrupted images were shown to these models.")
        return
    st.subheader("Corrupted images", anchor=False, help=terms.HELP["severity"])
    pick("Corruption", "corruption", {one: terms.corruption_name(one) for one in known}, label_visibility="collapsed")
    corruption = view.corruption if view.corruption in known else known[0]
    frame = db.under(source, "corruption", corruption, models)
    where = catalogue.dataset_name(str(frame["dataset"].iloc[0]))
    what = terms.corruption_name(corruption)
    parts.figure(
        plots.levels(frame, f"{what}, severity", f"Accuracy on {where} (n = {frame['n'].max():,})"),
        frame,
        f"corruption-{corruption}",
        f"Accuracy by severity of {what}",
    )
    st.caption("Corruptions are simulated on the test images.")


def errors(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...], dataset: str) -> None:
    """Errors under every corruption, relative to those of one network."""
    frame = db.corruption_errors(source, dataset, models)
    if frame.empty:
        return
    reference = catalogue.model_name(str(frame["reference"].iloc[0]))
    st.subheader("Corruption error", anchor=False, help=terms.HELP["ce"])
    st.caption(f"Relative to {reference}, which is 1 by definition; n = {frame['n'].max():,} images.")
    total = frame.loc[frame["corruption"] == "all"].sort_values("ce")
    said = [f"{row.ce:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]" for row in records(total)]
    wide = frame.loc[frame["corruption"] != "all"].pivot_table(index="name", columns="corruption", values="ce")
    wide = wide.reindex(total["name"]).round(2)
    wide.columns = [terms.corruption_name(str(one)) for one in wide.columns]
    wide.insert(0, "Error, %", (100 * total["error"]).round(1).to_numpy())
    wide.insert(0, "mCE", said)
    number = st.column_config.NumberColumn
    config = {one: number(format="%.2f") for one in wide.columns[2:]} | {"Error, %": number(format="%.1f")}
    parts.table(wide.reset_index(names="Model"), "corruption-errors", config, alt="Corruption errors by model")


def attacked(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...]) -> None:
    """Robust accuracy by eps of each attack, and whether the attack can be trusted."""
    seen = False
    for attack, title in catalogue.attacks.items():
        frame = db.under(source, "attack", attack, models)
        if frame.empty:
            continue
        seen = True
        st.subheader(f"Under attack: {title}", anchor=False, help=f"{terms.HELP['robust']} {terms.HELP['eps']}")
        where = catalogue.dataset_name(str(frame["dataset"].iloc[0]))
        parts.figure(
            plots.levels(
                frame,
                terms.EPS_AXIS[terms.norm_of(title)],
                f"Robust accuracy on {where} (n = {frame['n'].max():,})",
            ),
            frame,
            f"attack-{attack}",
            f"Robust accuracy by eps under {title}",
        )
        st.caption(
            "All models are shown the same images, made with the gradient of one network."
            if db.declared_attacks(source).get(attack, {}).get("source")
            else "Each model is attacked with its own gradient; controls are not attacked."
        )
        trusted(source, attack, models)
    if not seen:
        st.caption("These models were not attacked on this set.")


def trusted(source: db.Source, attack: str, models: tuple[str, ...]) -> None:
    """The checks of an attack: what they found in words, and the figures behind."""
    frame = db.attack_trust(source, attack)
    own = frame.loc[frame["model"].isin(models)]
    frame = own if len(own) else frame
    if frame.empty:
        return
    parts.trust(frame, attack)


def few_labels(source: db.Source, models: tuple[str, ...], view: state.View) -> None:
    """Heads on frozen features, and fine-tuning: with all labels, and with few."""
    frame = db.heads(source, models)
    if frame.empty:
        st.caption("No head was fitted on the features of these models here.")
        return
    options = [str(n) for n in sorted(frame["labels_per_class"].unique())]
    if len(options) > 1:
        names = {n: "All labels" if n == "0" else f"{n} labels a class" for n in options}
        pick("Labels", "few", names, label_visibility="collapsed")
    frame = frame.loc[frame["labels_per_class"] == int(view.few if view.few in options else options[0])]
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
    st.subheader("What the features are worth", anchor=False, help=f"{terms.HELP['linear']} {terms.HELP['knn']}")
    st.caption(
        "Heads on frozen features, and fine-tuning of the whole encoder where it was done. With few labels: the mean "
        "over draws of the labels, lowest to highest as a line."
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


def wrong_labels(source: db.Source, models: tuple[str, ...], dataset: str) -> None:
    """What wrong labels cost: heads on features that were learned without labels, and whole networks."""
    st.subheader("Wrong labels", anchor=False, help=terms.HELP["linear"])
    heads = db.noisy_heads(source, models)
    heads = heads.loc[heads["family"].isin(["ssl", "random", "pixels"])]
    trained = db.trained(source, models)
    rows = []
    for (name, probe), mine in heads.groupby(["name", "probe"], sort=False):
        as_they_are = (mine["label_source"] == db.ORIGINAL) & (mine["label_noise"] == 0)
        for row in records(mine.loc[~as_they_are]) if as_they_are.any() else ():
            labels = SIMULATED if row.label_source == db.ORIGINAL else row.label_source
            head, clean = terms.PROBE.get(str(probe), str(probe)), mine.loc[as_they_are, "value"].mean()
            rows.append((name, head, labels, row.label_noise, clean, row.value, row.n))
    recipe = ["arch", "views", "n_images", "views_seen"]
    for row in records(trained.loc[trained["label_noise"] > 0]):
        alike = trained.loc[(trained[recipe] == [getattr(row, key) for key in recipe]).all(axis=1)]
        alike = alike.loc[(alike["label_noise"] == 0) & (alike["family"] == row.family)]
        found = db.accuracies(source, "all", db.ORIGINAL, (row.model, *alike["model"]))
        found = found.loc[found["dataset"] == dataset].set_index("model")
        twins = found["value"].drop(row.model, errors="ignore")
        if row.model in found.index:
            mine = found.loc[row.model]
            what = f"Trained with them, beside {len(twins)} alike" if len(twins) else "Trained with them"
            rows.append((row.name, what, SIMULATED, row.label_noise, twins.mean(), mine["value"], mine["n"]))
    if not rows:
        st.caption("Nothing here was trained or fitted with wrong labels.")
        return
    frame = pd.DataFrame(rows, columns=["Model", "Head", "Labels", "Wrong, %", "clean", "noisy", "n"])
    low, high = stats.wilson(frame["noisy"] * frame["n"], frame["n"])
    shown = pd.DataFrame(
        {
            "Model": frame["Model"],
            "Head": frame["Head"],
            "Labels": frame["Labels"],
            "Wrong labels, %": (100 * frame["Wrong, %"]).round(0),
            "Accuracy with them": [
                terms.percent(*row) for row in zip(frame["noisy"], np.atleast_1d(low), np.atleast_1d(high), strict=True)
            ],
            "With labels as they are, %": (100 * frame["clean"]).round(1),
            "Cost, pp": (100 * (frame["clean"] - frame["noisy"])).round(1),
            "n": frame["n"],
        }
    ).sort_values("Cost, pp", kind="stable")
    others = sorted(set(frame["Labels"]) - {SIMULATED})
    named = f" {', '.join(others)}: what people said of the same images." if others else ""
    st.caption(
        f"Simulated: a share of the labels of train is replaced at random by other classes.{named} Accuracy is on test "
        "images with their own labels. A head sees wrong labels only at the end, a supervised network in all of its "
        "training: its features would have learned from them, so heads on other supervised networks are not shown."
    )
    parts.table(shown, "wrong-labels", alt="Accuracy with wrong labels")


def calibrated(source: db.Source, models: tuple[str, ...], dataset: str) -> None:
    """Whether confidence fits accuracy."""
    st.subheader("Calibration", anchor=False, help=terms.HELP["ece"])
    frame = db.calibration(source, dataset, models)
    if frame.empty:
        st.caption("No confidences of these models are known on this set.")
        return
    frame = frame.assign(
        said=[
            f"{row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]" if row.ci_low == row.ci_low else f"{row.value:.3f}"
            for row in records(frame)
        ]
    )
    titles = {
        "ece": "ECE",
        "ece_calibrated": "ECE after temperature",
        "nll": "Negative log-likelihood",
        "temperature": "Temperature",
    }
    wide = frame.pivot_table(index="name", columns="metric", values="said", aggfunc="first")
    wide = wide[[one for one in titles if one in wide.columns]].fillna("–").rename(columns=titles)
    order = frame.loc[frame["metric"] == "ece"].sort_values("value")["name"]
    once = frame.drop_duplicates("name").set_index("name")
    wide = wide.reindex(order).assign(Family=once["family"].map(terms.FAMILY), n=once["n"])
    text = st.column_config.TextColumn
    config = {titles[one]: text(help=terms.HELP[one]) for one in ("ece", "nll", "temperature")}
    st.caption(
        "The temperature is fitted on images of train that were kept back from the training; networks with published "
        "weights may have been trained on them."
    )
    parts.table(wide.reset_index(names="Model"), "calibration", config, alt="Calibration of the models")


def trainings(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...], dataset: str) -> None:
    """What each network was trained with, what choosing an epoch would have given, and published figures beside."""
    trained = db.trained(source, models)
    st.subheader("What they were trained with", anchor=False)
    if trained.empty:
        st.caption("None of these models was trained here.")
        return
    shown = pd.DataFrame(
        {
            "Model": trained["name"],
            "Method": trained["method"].map(terms.METHOD),
            "Images": trained["n_images"],
            "Epochs": trained["epochs"],
            "Views seen": trained["views_seen"],
            "Augmentation": trained["views"].map(terms.VIEWS),
            "Wrong labels, %": (100 * trained["label_noise"]).round(0),
            "Seed": trained["seed"],
        }
    )
    st.caption(
        "Where two differ in their augmentation, what they differ by is method and augmentation together: the contrast "
        "with the same views is the fairer one."
    )
    parts.table(shown, "trainings", alt="What each network was trained with")
    chosen_epochs(source, models)
    published(source, catalogue, models, dataset)


def chosen_epochs(source: db.Source, models: tuple[str, ...]) -> None:
    """kNN accuracy of the last epoch, of the epoch that validation would choose, and of the one that the test would."""
    trained = db.trained(source, models)
    noisy = set(trained.loc[trained["label_noise"] > 0, "model"])  # their neighbours vote with the wrong labels
    frame = db.epochs(source, models)
    frame = frame.loc[~frame["model"].isin(noisy)].dropna(subset=["knn_validation", "knn_test"])
    if frame.empty:
        return
    rows = []
    for name, mine in frame.groupby("name", sort=False):
        by = {one: mine.loc[mine[one].idxmax()] for one in ("epoch", "knn_validation", "knn_test")}
        last, validated, peeked = by.values()
        rows.append(
            {
                "Model": name,
                "Epochs": int(last["epoch"]),
                "Last epoch, %": round(100 * last["knn_test"], 1),
                "Chosen on validation, %": round(100 * validated["knn_test"], 1),
                "its epoch": int(validated["epoch"]),
                "Best on test, %": round(100 * peeked["knn_test"], 1),
                "Peeking would add, pp": round(100 * (peeked["knn_test"] - last["knn_test"]), 1),
                "Effective rank": round(float(last["effective_rank"]), 1),
                "Spread": round(float(last["collapse_std"]), 2),
            }
        )
    st.subheader(
        "What choosing an epoch would have given",
        anchor=False,
        help="kNN accuracy on the test images, by 20 neighbours among up to 5,000 images of train, after each epoch.",
    )
    st.caption(
        "All other figures here are of the last epoch. Published ones are often of the epoch that was best on the test "
        "images (column “Best on test”): an answer that was looked up."
    )
    number = st.column_config.NumberColumn
    config = {one: number(format="%.1f") for one in rows[0] if one.endswith((", %", ", pp"))}
    config |= {"Effective rank": number(help=terms.HELP["effective_rank"], format="%.1f")}
    config["Spread"] = number(format="%.2f")
    parts.table(pd.DataFrame(rows), "epochs", config, alt="kNN accuracy by how the epoch is chosen")


def published(source: db.Source, catalogue: db.Catalogue, models: tuple[str, ...], dataset: str) -> None:
    """lightly's own table of CIFAR-10 beside the networks of the same methods here."""
    if str(catalogue.datasets.at[dataset, "label_space"]) != "cifar10":
        return
    table = study.published()
    heads = db.heads(source, models)
    heads = heads.loc[(heads["probe"] == f"knn-{table.k}") & (heads["labels_per_class"] == 0)]
    methods = catalogue.models.set_index("model")["method"]
    trained = db.trained(source, models).set_index("model")
    ours = [row for row in records(heads) if row.model in trained.index and methods[row.model] in table.methods]
    if not ours:
        return
    names = [f"{one.epochs} epochs, batches of {one.batch_size}, %" for one in table.budgets]
    rows = [
        {
            "Model": row.name,
            "Here, %": round(100 * row.value, 1),
            "Epochs here": int(trained.at[row.model, "epochs"]),
            **{
                name: round(100 * value, 1)
                for name, value in zip(names, table.methods[methods[row.model]], strict=True)
            },
        }
        for row in ours
    ]
    st.subheader(f"Beside lightly's published figures (kNN, k = {table.k})", anchor=False)
    sizes = sorted({f"{catalogue.models.set_index('model').at[row.model, 'params_m']:.1f}" for row in ours})
    st.caption(
        f"Not the same experiment: theirs is a {table.arch} of 11 million parameters for 200 to 800 epochs, and the "
        f"best epoch on the test images; here it is a network of {' and '.join(sizes)} million parameters, the epochs "
        f"stated, and the last epoch. Source: {table.source}."
    )
    parts.table(pd.DataFrame(rows), "published", alt="kNN accuracy here and as published by lightly")


main()
