"""Attacks: what images made against one model do to another, on which images, and what these are then taken for."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench import stats
from dashboard import attacked, db, detection, findings, hierarchy, objectives, parts, plots, regions, state, terms
from dashboard.frames import Frame, records

QUESTION = "Does an attack on one model work on another, and on which images?"
BY_ATTACK = ("pairs", "images", "classes")
"""Sections that show one attack at one strength; the others compare all, or make images of their own."""
LIMIT = 12
"""Images of a pair of models or of a kind that are shown."""


def main() -> None:
    source, view = st.session_state["source"], state.current()
    catalogue = db.catalogue(source)
    pairs = db.transfer_pairs(source, view.dataset)
    if pairs.empty:
        absent(source, catalogue, view)
        return
    names = {
        one: terms.condition_name(one, catalogue.attacks) for one in sorted(pairs["condition"].unique(), key=_strength)
    }
    condition = view.threat if view.threat in names else default(pairs)
    mine = pairs.loc[pairs["condition"] == condition]
    sampled = db.transfer_sampling(source, condition)
    taken = db.misclassifications(source, condition)
    inside = names[condition]
    parts.head(
        QUESTION,
        findings.transfer(mine, sampled, inside),
        findings.taken_for(taken, "top2") if len(taken) else "",
    )
    left, right = st.columns([3, 1])
    with left:
        state.bound(
            st.segmented_control,
            "Section",
            "threats",
            value="pairs",
            options=list(terms.THREATS),
            format_func=terms.THREATS.get,
            required=True,
            label_visibility="collapsed",
        )
    section = state.current().threats
    if section in BY_ATTACK:
        with right:
            state.bound(
                st.selectbox,
                "Attack",
                "threat",
                value=default(pairs),
                options=list(names),
                format_func=names.get,
                help=terms.HELP["eps"],
                label_visibility="collapsed",
            )
        if db.declared_attacks(source).get(condition.split(":")[1], {}).get("stop") == "transfer":
            st.caption(terms.ASKED)
    match section:
        case "images":
            images(source, catalogue, view, condition, sampled)
        case "classes":
            classes(taken, str(catalogue.datasets.at[view.dataset, "label_space"]))
            hierarchy.landing(source, catalogue, view, condition)
        case "objectives":
            objectives.section(source, catalogue, view)
        case "regions":
            regions.section(source, catalogue, view)
        case "detection":
            detection.section(source, catalogue, view)
        case "checks":
            checks(source, catalogue, view)
        case _:
            matrix(source, catalogue, view, condition, mine)


def _strength(condition: str) -> tuple[str, float]:
    _, name, eps = condition.split(":")
    return name, float(eps)


def default(pairs: Frame) -> str:
    """The condition under which about half of all transfers succeed, or nearest to that: there most is to be seen."""
    between = pairs.loc[pairs["source_model"] != pairs["target_model"]]
    rates = between.groupby("condition")["rate"].mean()
    order = sorted(rates.index, key=_strength)
    return str(min(order, key=lambda one: abs(rates[one] - 0.5)))


def absent(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """Why there is nothing to see of a set, and what makes it."""
    attacked = [catalogue.dataset_name(name) for name in db.attacked_sets(source)]
    name = catalogue.dataset_name(view.dataset)
    if attacked:
        parts.head(QUESTION, f"No images of {name} were attacked and shown to other models.")
        st.markdown(f"This was done on {', '.join(attacked)}: choose it above.")
        return
    parts.head(QUESTION, "These results hold no attacks that were shown to other models.")
    st.markdown("They were made before that was done, or no model was attacked. Attacks are declared in `params.yaml`:")
    st.code("dvc repro transfer_study misclassification database", language="bash")


def matrix(source: db.Source, catalogue: db.Catalogue, view: state.View, condition: str, pairs: Frame) -> None:
    """How often each pair transfers, and the images of one pair."""
    st.subheader("From model to model", anchor=False, help=terms.HELP["transfer"])
    made = [m for m in catalogue.models["model"] if (pairs["source_model"] == m).any()]
    shown = [m for m in catalogue.models["model"] if (pairs["target_model"] == m).any()]
    wide = pairs.pivot(index="source_model", columns="target_model", values="rate").reindex(index=made, columns=shown)
    n = int(pairs["n"].max())
    plot = plots.transfers(
        wide.to_numpy(float),
        [catalogue.model_name(m) for m in made],
        [catalogue.model_name(m) for m in shown],
        f"Answered wrongly, % of the {n:,} images that all models get right when clean",
    )

    def clicked() -> None:
        for point in st.session_state["figure:transfer-matrix"]["selection"]["points"]:
            row, column = point["customdata"]
            if made[row] != shown[column]:
                state.change(via=made[row], onto=shown[column], hit="")

    st.plotly_chart(
        plot,
        config=parts.PLOT,
        key="figure:transfer-matrix",
        on_select=clicked,
        selection_mode="points",
        alt="How often images made on one model are answered wrongly by another",
    )
    parts.downloads(pairs, "transfer-matrix-figure")
    st.caption(
        "Rows: the model whose gradient the attack follows. Columns: the model that is shown its images. Click a pair "
        "to see its images below."
    )
    hierarchy.theirs_of_pairs()
    one, two = st.columns(2)
    with one:
        via = state.picked("Made on", "via", {one: catalogue.model_name(one) for one in made})
    with two:
        onto = state.picked("Shown to", "onto", {one: catalogue.model_name(one) for one in shown if one != via})
    cell = pairs.loc[(pairs["source_model"] == via) & (pairs["target_model"] == onto)].iloc[0]
    st.markdown(
        f"**{terms.percent(cell['rate'], cell['ci_low'], cell['ci_high'])}** of {int(cell['n']):,} images that were "
        "made "
        f"on {catalogue.model_name(via)} are answered wrongly by {catalogue.model_name(onto)}."
    )
    rows = db.transferred(source, condition, via, onto)
    attacked.pair(source, catalogue, view, condition, via, onto, rows)
    pictures(source, catalogue, view, condition, rows, f"pair:{via}:{onto}")


def pictures(
    source: db.Source, catalogue: db.Catalogue, view: state.View, condition: str, rows: Frame, key: str
) -> None:
    """Clean images, with what each model makes of the attacked ones."""
    if db.transfer_images(source, condition).empty:
        st.caption("This snapshot holds no rows of single images under this attack.")
        return
    if rows.empty:
        st.caption("No image transfers.")
        return
    names = catalogue.class_names(view.dataset)
    some = rows.head(LIMIT)
    captions = [f"{names[row.label]} → {names[row.pred]}" for row in records(some)]
    alts = [f"image {row.sample_id}, label {names[row.label]}, then {names[row.pred]}" for row in records(some)]
    st.caption(
        f"{len(some)} of {len(rows):,} images that transfer, here as they are when clean. Below each: its label, and "
        "what it is taken for when attacked."
    )
    parts.grid(
        source,
        some["sample_id"].tolist(),
        captions,
        alts,
        key,
        parts.instead_of(catalogue, view.dataset, some["label"]),
    )
    parts.lacking_pictures(source, view.dataset)
    shown = rows.assign(
        label=[names[k] for k in rows["label"]], pred=[names[k] for k in rows["pred"]], change=rows["linf"] * 255
    )
    with st.expander("All of them as a table"):
        parts.table(
            shown.rename(columns={"sample_id": "Image", "label": "Label", "pred": "Taken for"})
            .assign(
                **{
                    "Place when clean": rows["rank_clean"],
                    "L2": rows["l2"].round(3),
                    "Linf, /255": shown["change"].round(2),
                }
            )
            .loc[:, ["Image", "Label", "Taken for", "Place when clean", "L2", "Linf, /255"]],
            f"transferred-{key}",
            alt="Images that transfer",
        )


def images(source: db.Source, catalogue: db.Catalogue, view: state.View, condition: str, sampled: Frame) -> None:
    """Whether images differ, what foretells it, and which ones are recommended."""
    st.subheader("Do images differ?", anchor=False, help=terms.HELP["transfer_count"])
    counts = db.transfer_images(source, condition)
    pairs = db.transfer_pairs(source, view.dataset)
    between = pairs.loc[(pairs["condition"] == condition) & (pairs["source_model"] != pairs["target_model"])]
    if counts.empty:
        st.caption("This snapshot holds no rows of single images under this attack.")
    else:
        expected = stats.poisson_binomial(between["rate"].to_numpy(float))
        parts.figure(
            plots.transfer_counts(counts["count"].to_numpy(), expected),
            counts[["sample_id", "count", "n_pairs", "kind", "vetted"]],
            "transfer-counts",
            "Number of pairs of models by which images transfer",
        )
        st.caption(
            "The line: what would be seen if each pair of models transferred as often as it does, on images of its "
            "own. "
            "Relatives agree, and one image is shown to all targets, so some of the difference is the models'."
        )
    spread(sampled)
    proxies(source, view.dataset, condition)
    if counts.empty:
        return
    names = catalogue.class_names(view.dataset)
    for kind, title in terms.SOURCE_IMAGES.items():
        rows = counts.loc[counts["kind"] == kind].sort_values(["count", "sample_id"], ascending=[kind == "hard", True])
        st.markdown(f"**{title}**")
        if rows.empty:
            st.caption("There is none.")
            continue
        some = rows.head(LIMIT)
        captions = [
            f"{names[row.label]} · {row.count_}/{row.n_pairs}"
            for row in records(some.rename(columns={"count": "count_"}))
        ]
        alts = [f"image {row.sample_id}, label {names[row.label]}" for row in records(some)]
        parts.grid(
            source,
            some["sample_id"].tolist(),
            captions,
            alts,
            kind,
            parts.instead_of(catalogue, view.dataset, some["label"]),
        )
    recommended(source, view, condition, counts)


def recommended(source: db.Source, view: state.View, condition: str, counts: Frame) -> None:
    """Which images to try attacks on, and by what they are chosen."""
    st.markdown("**Recommended source images**")
    told = db.transfer_proxies(source, view.dataset)
    best = told.loc[(told["condition"] == "all") & told["recommends"]]
    kept = counts.loc[counts["vetted"], ["sample_id"]]
    if best.empty:
        st.caption(
            f"All {len(kept):,} suitable ones: no clean figure is known whose extremes, left out, narrow the spread of "
            "T. "
            "A draw of a few is not comparable with another draw."
        )
    else:
        proxy = str(best["proxy"].iloc[0])
        here = told.loc[told["proxy"] == proxy].set_index("condition")
        every, one = (
            terms.percent(*here.loc[name, ["spread_left", "ci_low", "ci_high"]]) for name in ("all", condition)
        )
        st.caption(
            f"{len(kept):,} of {len(counts):,} suitable images: without the twentieths at the two ends of the "
            f"{terms.PROXY[proxy].lower()}. That leaves {every} of the spread of T over all attacks together, of which "
            f"strong ones weigh most, and {one} under this one; ranges of the mean rate are that much narrower. Say "
            "which "
            "images were taken: a draw of a few is not comparable with another draw."
        )
    parts.downloads(kept, f"source-images-{condition.replace(':', '-')}")


def spread(sampled: Frame) -> None:
    """The range of figures over draws, and that of chance."""
    rows = sampled.loc[sampled["statistic"].isin(list(terms.SAMPLED))]
    if rows.empty:
        return
    rows = rows.sort_values("statistic", key=lambda c: c.map(list(terms.SAMPLED).index))
    unit = rows["statistic"].map({"rate": 100.0, "pair": 100.0, "linf": 255.0}).fillna(1.0)
    shown = pd.DataFrame(
        {
            "Figure": rows["statistic"].map(terms.SAMPLED),
            "All suitable images": (unit * rows["value"]).round(2),
            "Lowest draw": (unit * rows["lowest"]).round(2),
            "Highest draw": (unit * rows["highest"]).round(2),
            "Range": (unit * (rows["highest"] - rows["lowest"])).round(2),
            "Range by chance": [
                f"{u * low:.2f} to {u * high:.2f}" if low == low else "–"
                for u, low, high in zip(unit, rows["range_null_low"], rows["range_null_high"], strict=True)
            ],
        }
    )
    one = rows.iloc[0]
    st.caption(
        f"{int(one['draws']):,} draws of {int(one['n_drawn']):,} of the {int(one['n']):,} suitable images. A range "
        "grows with the number of draws, and images that are alike have one too: by chance means that the transfers of "
        "each pair fall on images at random. A single pair ranges as by chance, always."
    )
    parts.table(shown, "transfer-sampling", alt="Range of figures over draws of images")


def proxies(source: db.Source, dataset: str, condition: str) -> None:
    """How well clean figures of an image foretell how it transfers."""
    frame = db.transfer_proxies(source, dataset)
    frame = frame.loc[frame["condition"] == condition]
    if frame.empty:
        return
    st.subheader("What foretells it?", anchor=False, help=terms.HELP["proxy"])
    shown = pd.DataFrame(
        {
            "Clean figure, mean over models": frame["proxy"].map(terms.PROXY).fillna(frame["proxy"]),
            "Rank correlation": frame["spearman"].round(2),
            "p": frame["p_value"].round(3),
            f"AUROC of the {int(frame['n_fragile'].iloc[0])} fragile": frame["auroc"].round(2),
            "Spread without its ends": [
                terms.percent(row.spread_left, row.ci_low, row.ci_high) for row in records(frame)
            ],
            "n": frame["n"],
        }
    ).sort_values("Rank correlation", key=lambda c: -c.abs(), kind="stable")
    parts.table(shown, "transfer-proxies", alt="Clean figures that foretell transfers")


def classes(taken: Frame, label_space: str) -> None:
    """What images that transfer are taken for."""
    st.subheader("What are they taken for?", anchor=False, help=terms.HELP["taken_for"])
    if taken.empty:
        st.caption("No image transfers under this attack.")
        return
    measures = {one: name for one, name in terms.TAKEN.items() if (taken["measure"] == one).any()}
    chosen = state.picked(
        "Measure", "taken", measures, st.segmented_control, required=True, label_visibility="collapsed"
    )
    rows = taken.loc[taken["measure"] == chosen]
    rows = rows.assign(name=rows["collection"].where(rows["collection"] != "all", "all classes"))
    parts.figure(
        plots.taken_for(rows, f"{measures[chosen]}, share of transfers"),
        rows,
        "taken-for",
        "What images that transfer are taken for, by group of classes",
    )
    st.caption(
        "Every transfer between different models counts; intervals resample images. Hollow: if any other class were "
        "alike; "
        "cross, and by clean p: a class drawn by the target's own clean probabilities without the label. Lift: over "
        "chance. The groups of classes are this benchmark's own."
    )
    shown = pd.DataFrame(
        {
            "Label in": rows["name"],
            "Share": [terms.percent(row.share, row.ci_low, row.ci_high) for row in records(rows)],
            "By chance, %": (100 * rows["chance"]).round(1),
            "By clean p, %": (100 * rows["null"].astype(float)).round(1),
            "Over that, pp": [
                terms.points(row.over_null_pp, row.over_null_low, row.over_null_high, sign=True)
                for row in records(rows)
            ],
            "Lift": (rows["share"] / rows["chance"]).round(2),
            "Transfers": rows["n"],
            "Images": rows["n_images"],
            "Classes": rows["n_classes"],
        }
    )
    parts.table(shown, "taken-for", alt="What images that transfer are taken for")
    hierarchy.theirs_of_groups(taken, label_space)


def checks(source: db.Source, catalogue: db.Catalogue, view: state.View) -> None:
    """What tells a robust network from an attack that does not work."""
    st.subheader("Do the attacks work?", anchor=False, help=terms.HELP["trust"])
    for attack, name in catalogue.attacks.items():
        frame = db.attack_trust(source, attack)
        frame = frame.loc[frame["dataset"] == view.dataset]
        if len(frame):
            st.markdown(f"**{name}**")
            parts.trust(frame, attack)


main()
