"""Page Attacks: one image beside what an attack made of it, what every model says of both, and both as files."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from bench import config as configuration
from bench import pictures
from bench.config import Config
from bench.errors import BenchError
from bench.store import database
from dashboard import db, parts, segmenting, state, terms
from dashboard.frames import Frame, records

OFFERED = 200
"""Images of a pair of models that can be chosen from."""


@dataclass(frozen=True)
class Shown:
    """PNG of the clean and of the attacked image, what models say of the latter (model, pred, p_pred, p_label), and
    arrays for an NPZ."""

    clean: bytes
    attacked: bytes
    answers: Frame
    arrays: dict[str, np.ndarray]


def pair(
    source: db.Source, catalogue: db.Catalogue, view: state.View, condition: str, via: str, onto: str, rows: Frame
) -> None:
    """One image of a pair of models. rows: images that transfer, as `db.transferred` gives them."""
    kept = db.attack_images(source, condition, via)
    transferred = dict(zip(rows["sample_id"], rows["pred"], strict=True))
    offered = [one for one in kept["sample_id"] if one in transferred]
    offered += [one for one in rows["sample_id"].head(OFFERED) if one not in offered]
    offered += [one for one in kept["sample_id"] if one not in transferred]
    if not offered:
        return
    st.markdown("**One image, before and after**", help=terms.HELP["attacked"])
    names = catalogue.class_names(view.dataset)

    def says(sample_id: str) -> str:
        short = sample_id.split("/", 1)[1]
        if sample_id not in transferred:
            return f"{short}, does not transfer"
        return f"{short}, taken for {names[transferred[sample_id]]}"

    chosen = state.picked("Image", "hit", {one: says(one) for one in offered}, label_visibility="collapsed")
    shown = stored(source, condition, via, chosen) or again(source, view, condition, via, onto, chosen)
    if shown is not None:
        before_and_after(source, catalogue, view, chosen, onto, shown, condition, via)


def stored(source: db.Source, condition: str, via: str, sample_id: str) -> Shown | None:
    """What the results keep of an image; None where they do not."""
    rows = db.attack_images(source, condition, via)
    rows = rows.loc[rows["sample_id"] == sample_id]
    if rows.empty:
        return None
    row = next(records(rows))
    clean, attacked = bytes(row.clean), bytes(row.png)
    arrays = {"ids": np.array([sample_id]), "labels": np.array([row.label])}
    arrays |= {"clean_u8": _planes(clean), "attacked_u8": _planes(attacked)}
    return Shown(clean, attacked, db.attack_answers(source, row.attack_id), arrays)


def _planes(png: bytes) -> np.ndarray:
    """A PNG as uint8 (1, C, H, W), as `bench.attacks.remake.arrays` has it."""
    return np.atleast_3d(pictures.pixels(png)).transpose(2, 0, 1)[None]


def again(source: db.Source, view: state.View, condition: str, via: str, onto: str, sample_id: str) -> Shown | None:
    """An image that is not kept, made again with the networks of this repository when asked for."""
    try:
        config = configuration.load(Path(os.environ.get("BENCH_ROOT", ".")) / "params.yaml")
    except BenchError as fault:
        st.error(str(fault))
        return None
    _, name, eps = condition.split(":")
    if source.path != str(config.results / database.FILE) or name not in config.attack_runs:
        st.caption("The picture of this image is not kept in this snapshot (`attacks.kept` in params.yaml).")
        return None
    asked = f"again:{condition}:{via}:{onto}:{sample_id}"
    if not st.session_state.get(asked):
        st.caption("The picture of this image is not kept. It can be made again with the networks that lie here.")
        st.button("Make it", key=f"make:{asked}", on_click=st.session_state.update, args=({asked: True},))
        return None
    try:
        with st.spinner("Attacking …"):
            models = tuple(config.attack_pool(view.dataset))
            return remade(source, config, name, float(eps), via, onto, sample_id, models)
    except BenchError as fault:
        st.error(str(fault))
        return None


@st.cache_data(max_entries=64, show_spinner=False)
def remade(
    source: db.Source,
    _config: Config,
    name: str,
    eps_255: float,
    via: str,
    onto: str,
    sample_id: str,
    models: tuple[str, ...],
) -> Shown:
    """An image of an attack, made again. BenchError where a network or the image is not there, or what is made now is
    not what the results are of."""
    from bench.attacks import norms, remake

    found = remake.attacked(_config, name, eps_255, via, [sample_id], onto, keep=False)
    then = db.attack_size(
        source, f"{name}/{eps_255:g}/{via}/{sample_id}", f"{name}/{eps_255:g}/{via}@{onto}/{sample_id}"
    )
    now = float(norms.sizes(found.images, found.clean).l2[0])
    if then is None or not np.isclose(now, then, rtol=1e-3, atol=1e-5):
        raise BenchError(
            "the image that is made now is not the one of these results.",
            where=f"attack {name}",
            remedy="params.yaml or a network has changed since: run `dvc repro`.",
        )
    clean, attacked = (pictures.of_image(images[0]) for images in (found.clean, found.images))
    return Shown(clean, attacked, remake.answers(_config, found, models), remake.arrays(found))


def before_and_after(
    source: db.Source,
    catalogue: db.Catalogue,
    view: state.View,
    sample_id: str,
    onto: str,
    shown: Shown,
    condition: str,
    via: str,
) -> None:
    """Three pictures, a table of answers, and the files."""
    names = catalogue.class_names(view.dataset)
    label = int(shown.arrays["labels"][0])
    change, times = segmenting.perturbation(shown.clean, shown.attacked)
    answer = dict(zip(shown.answers["model"], shown.answers["pred"], strict=True))
    target = f"{catalogue.model_name(onto)}: {names[answer[onto]]}" if onto in answer else ""
    tiles = [
        segmenting.Tile(shown.clean, f"Clean image, label {names[label]}"),
        segmenting.Tile(change, f"Perturbation, × {times:.1f}"),
        segmenting.Tile(shown.attacked, f"Attacked image. {target}"),
    ]
    st.html(segmenting.strip_html(tiles))
    files(shown, f"{sample_id}-{condition}-{via}".replace("/", "_").replace(":", "-"))
    parts.opener("Open the image's page", sample_id, f"open:pair:{sample_id}")
    clean = db.answers(source, sample_id).set_index("model")
    table = [
        {
            "Model": catalogue.model_name(row.model) + (" (made on)" if row.model == via else ""),
            "Clean": names[int(clean.at[row.model, "pred"])] if row.model in clean.index else None,
            "Sure, %": round(100 * float(clean.at[row.model, "p_top1"]), 1) if row.model in clean.index else None,
            "Attacked": names[int(row.pred)],
            "Sure then, %": round(100 * float(row.p_pred), 1),
            "Label then, %": round(100 * float(row.p_label), 1),
            "Fooled": int(row.pred) != label,
        }
        for row in records(ordered(shown.answers, catalogue))
    ]
    parts.table(pd.DataFrame(table), "attacked-answers", alt="What every model says of the clean and attacked image")


def ordered(answers: Frame, catalogue: db.Catalogue) -> Frame:
    """Rows of models in the order of the catalogue."""
    place = {model: row for row, model in enumerate(catalogue.models["model"])}
    return answers.sort_values("model", key=lambda column: column.map(place))


def files(shown: Shown, name: str) -> None:
    """The attacked image as PNG, and all that is known of it as NPZ."""
    with st.container(horizontal=True, gap="small"):
        for kind, data, mime, about in (
            ("PNG", shown.attacked, "image/png", "The attacked image in 8 bits, in the size that networks are given"),
            ("NPZ", npz(shown), "application/octet-stream", "Clean and attacked image, label, and answers, for NumPy"),
        ):
            st.download_button(
                kind,
                data,
                file_name=f"{name}.{kind.lower()}",
                mime=mime,
                key=f"download:attacked:{kind}",
                on_click="ignore",
                type="tertiary",
                icon=":material/download:",
                help=about,
            )


def npz(shown: Shown) -> bytes:
    """The arrays, and `models` (M,) with their answers `pred`, `p_pred` and `p_label` (M,)."""
    stream = io.BytesIO()
    said: dict[str, Any] = {column: shown.answers[column].to_numpy() for column in ("pred", "p_pred", "p_label")}
    np.savez_compressed(stream, **shown.arrays, models=shown.answers["model"].to_numpy(str), **said)
    return stream.getvalue()
