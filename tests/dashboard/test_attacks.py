"""The page Attacks: its figures, what is behind them, and where there is nothing to see."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bench import pictures
from bench.config import Config
from bench.store import database, tables
from dashboard import attacked, db, findings, terms
from tests.dashboard.conftest import Open, text

CONDITION = "attack:pgd-linf:16"
PAIR = ("simclr-cnn", "supervised-cnn")


def stored(config: Config, name: str) -> pd.DataFrame:
    return tables.read(name, config.results / f"{name}.parquet")


def test_the_images_of_a_pair_are_the_suitable_ones_that_transferred(config: Config, source: db.Source) -> None:
    found = db.transferred(source, CONDITION, *PAIR)
    attacks, transfers = stored(config, "attacks"), stored(config, "transfers")
    right = stored(config, "source_images").groupby("sample_id")["right"].all()
    mine = attacks.loc[attacks["attack_id"].str.startswith(f"pgd-linf/16/{PAIR[0]}/")].set_index("attack_id")
    shown = transfers.loc[(transfers["target_model"] == PAIR[1]) & transfers["success"]].set_index("attack_id")
    expected = {mine["sample_id"][one] for one in shown.index.intersection(mine.index)}
    assert set(found["sample_id"]) == {one for one in expected if right[one]}
    assert len(found) > 3
    cell = db.transfer_pairs(source, "digits").query("condition == @CONDITION and source_model == @PAIR[0]")
    one = cell.loc[cell["target_model"] == PAIR[1]].iloc[0]
    assert len(found) == round(one["rate"] * one["n"])


def test_a_pair_is_chosen_and_its_images_are_shown(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "attacks", threat=CONDITION, via=PAIR[0], onto=PAIR[1])
    assert not app.exception
    said = text(app)
    assert "on another one" in said
    tiles = [b for b in app.button if b.key and b.key.startswith(f"open:pair:{PAIR[0]}:{PAIR[1]}:")]
    assert tiles
    assert all(" → " in tile.label for tile in tiles)
    app.selectbox(key="w:via").set_value(PAIR[1]).run()
    assert not app.exception
    assert PAIR[1] not in app.selectbox(key="w:onto").options, "not onto itself"


def test_an_attack_that_asks_its_targets_says_so(
    config: Config, open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert terms.ASKED not in text(open_app(config.root, "attacks", threat=CONDITION))
    known = db.declared_attacks

    def stopping(source: db.Source) -> dict[str, dict[str, Any]]:
        return {name: {**facts, "stop": "transfer"} for name, facts in known(source).items()}

    monkeypatch.setattr(db, "declared_attacks", stopping)
    app = open_app(config.root, "attacks", threat=CONDITION)
    assert not app.exception
    assert terms.ASKED in text(app)


def test_one_image_is_shown_before_and_after_with_what_all_models_say(
    config: Config, source: db.Source, open_app: Open
) -> None:
    kept = db.attack_images(source, CONDITION, PAIR[0])
    assert len(kept) == 3
    app = open_app(config.root, "attacks", threat=CONDITION, via=PAIR[0], onto=PAIR[1], hit=kept["sample_id"].iloc[1])
    assert not app.exception
    table = next(frame.value for frame in app.dataframe if "Fooled" in frame.value.columns)
    assert len(table) == len(config.attack_pool("digits"))
    assert table["Model"].str.endswith("(made on)").sum() == 1
    answers = stored(config, "attack_answers").set_index("attack_id").loc[kept["attack_id"].iloc[1]]
    wrong = (answers["pred"] != kept["label"].iloc[1]).sum()
    assert table["Fooled"].sum() == wrong
    shown = attacked.stored(source, CONDITION, PAIR[0], kept["sample_id"].iloc[1])
    assert shown is not None
    assert shown.attacked == kept["png"].iloc[1]


def test_an_image_that_is_not_kept_is_made_again_or_says_what_lacks(
    config: Config, source: db.Source, open_app: Open
) -> None:
    kept = set(db.attack_images(source, CONDITION, PAIR[0])["sample_id"])
    other = next(one for one in db.transferred(source, CONDITION, *PAIR)["sample_id"] if one not in kept)
    app = open_app(config.root, "attacks", threat=CONDITION, via=PAIR[0], onto=PAIR[1], hit=other)
    assert not app.error
    next(button for button in app.button if button.label == "Make it").click().run()
    assert not app.exception
    assert "Run `dvc " in app.error[0].value, "neither images nor networks lie beside these results"


def test_an_npz_holds_what_is_shown(source: db.Source) -> None:
    kept = db.attack_images(source, CONDITION, PAIR[0]).iloc[0]
    shown = attacked.stored(source, CONDITION, PAIR[0], kept["sample_id"])
    assert shown is not None
    with np.load(io.BytesIO(attacked.npz(shown))) as held:
        np.testing.assert_array_equal(held["attacked_u8"][0, 0], pictures.pixels(kept["png"]))
        np.testing.assert_array_equal(held["clean_u8"][0, 0], pictures.pixels(kept["clean"]))
        assert held["ids"].tolist() == [kept["sample_id"]]
        assert held["models"].shape == held["pred"].shape == held["p_label"].shape
    assert attacked.stored(source, CONDITION, PAIR[0], "digits/none") is None


@pytest.mark.parametrize("section", ["pairs", "images", "classes", "objectives", "detection", "regions", "checks"])
def test_every_section_says_something_of_every_attack(config: Config, open_app: Open, section: str) -> None:
    for condition in ("attack:pgd-linf:8", CONDITION):
        app = open_app(config.root, "attacks", threats=section, threat=condition)
        pickers = [one.value for one in app.selectbox if one.key == "w:threat"]
        assert pickers == ([condition] if section in ("pairs", "images", "classes") else []), (
            "where it changes what is shown"
        )
        assert not app.exception
        assert not app.warning
        assert app.subheader[0].value.endswith("?") or section == "pairs"
        words = text(app).split()
        assert not {"nan", "None", "NaN"} & set(words)


def test_the_checks_say_where_a_network_was_followed_in_bfloat16(
    config: Config, tmp_path: Path, open_app: Open
) -> None:
    """Only of a run that asks for it: at 16/255 of all models, at 8/255 of none."""
    assert "In bfloat16 at" not in checked(open_app(config.root, "attacks", threats="checks"))
    root = shutil.copytree(config.root, tmp_path / "copy")
    with duckdb.connect(root / "results" / "bench.duckdb") as connection:
        connection.execute(
            """
            UPDATE attacks SET params_json = json_merge_patch(
                params_json, json_object('dtype', CASE WHEN attack_id LIKE '%/16/%' THEN 'bfloat16' ELSE 'float32' END)
            )
            """
        )
    shown = checked(open_app(root, "attacks", threats="checks"))
    assert set(shown["In bfloat16 at"]) == {"16/255"}


def checked(app: AppTest) -> pd.DataFrame:
    """The table of checks of the first attack."""
    assert not app.exception
    return next(one.value for one in app.dataframe if "Gradient of" in one.value)


def test_sets_that_were_not_attacked_say_where_to_look(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "attacks", dataset="optdigits")
    assert "This was done on" in text(app)
    assert not app.exception


def pairs() -> pd.DataFrame:
    rates = {("a", "a"): 1.0, ("b", "b"): 0.8, ("a", "b"): 0.5, ("b", "a"): 0.1}
    return pd.DataFrame([{"source_model": s, "target_model": t, "rate": r, "n": 40} for (s, t), r in rates.items()])


@pytest.mark.parametrize(("p", "said"), [(0.005, "are spread wider over images than"), (0.4, "over images as if each")])
def test_the_finding_says_what_its_figures_support(p: float, said: str) -> None:
    rate = {"statistic": "rate", "p_value": 0.9, "ci_low": 0.2, "ci_high": 0.4}
    sampled = pd.DataFrame([rate, {"statistic": "spread", "p_value": p}])
    found = findings.transfer(pairs(), sampled, "PGD, 8/255")
    assert "90.0 % on the model that it follows and **30.0 % [20.0, 40.0] on another one**" in found
    assert "(mean over 2 pairs, 10.0 % to 50.0 %)" in found
    assert said in found
    assert "spread" not in findings.transfer(pairs(), sampled.iloc[:1], "PGD")


def test_what_transfers_are_taken_for_stands_beside_both_levels() -> None:
    row = {"collection": "all", "measure": "top2", "share": 0.6, "ci_low": 0.5, "ci_high": 0.7, "chance": 1 / 9}
    row |= {"null": 0.55, "over_null_pp": 5.0, "over_null_low": -1.0, "over_null_high": 11.0, "n": 1234}
    found = findings.taken_for(pd.DataFrame([row]), "top2")
    assert "60.0 % [50.0, 70.0] of these 1,234 transfers" in found
    assert "by chance it would be 11.1 %, by its clean probabilities 55.0 %: +5.0 pp [-1.0, 11.0] over these." in found
    assert findings.taken_for(pd.DataFrame([row]), "inside") == ""


def test_a_snapshot_without_single_images_of_an_attack_says_so(config: Config, open_app: Open, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    shutil.copy(config.root / "params.yaml", tmp_path)
    for name in (database.FILE, database.HASHES):
        shutil.copy(config.results / name, tmp_path / "results")
    with duckdb.connect(str(tmp_path / "results" / database.FILE)) as connection:
        connection.execute("DELETE FROM transfer_images WHERE condition = ?", [CONDITION])
    for section in ("pairs", "images"):
        app = open_app(tmp_path, "attacks", threat=CONDITION, threats=section)
        assert not app.exception
        assert "no rows of single images under this attack" in text(app)
        assert "No image transfers" not in text(app)


def test_objectives_are_held_against_the_cross_entropy(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "attacks", threats="objectives", climber="simclr-cnn")
    assert not app.exception
    assert "along the sign 1.3" in text(app)
    assert "those by the difference of logits" in text(app)
    assert app.selectbox(key="w:climber").value == "simclr-cnn"
    assert findings.objectives(db.objective_summary(source_of(config), "digits").iloc[:0]) == ""


def test_targets_are_chosen_and_what_is_past_them_is_told(config: Config, open_app: Open) -> None:
    app = open_app(config.root, "attacks", threats="objectives", toward="runner_up")
    assert not app.exception
    assert app.segmented_control(key="w:toward").value == "runner_up"
    assert "To the runner-up the difference of logits takes" in text(app)
    assert "To a margin of 20 come" in text(app)
    assert "at a margin of 18 p rounds to 1 in 100.0 %" in text(app)
    assert "with the loss alone in float64 it is 1.000" in text(app)
    assert "No gradient vanishes." in text(app)
    drawn = open_app(config.root, "attacks", threats="objectives")
    assert drawn.segmented_control(key="w:toward").value == "random"
    steps = {name: tables_of(one)["Median"].iloc[0] for name, one in (("near", app), ("far", drawn))}
    assert steps["near"] < steps["far"]


def tables_of(app: AppTest) -> pd.DataFrame:
    """The first table with steps."""
    return next(one.value for one in app.dataframe if "Median" in one.value)


def test_what_saturation_says() -> None:
    margins = [0.0, 16.0, 18.0]
    one = {"name": "A", "margin": margins, "saturated": [0.0, 0.0, 1.0], "vanished": 0.0, "n": [9, 8, 7]}
    cosines = {"cosine": [1.0, 0.995, -0.2], "cosine_low": -0.4, "cosine_high": 0.1, "cosine_mended": 1.0}
    two = pd.DataFrame({**one, **cosines, "name": "B"}).iloc[:2].assign(vanished=[0.0, 0.25])
    said = findings.softmax_lost(pd.concat([pd.DataFrame({**one, **cosines}), two]))
    assert "**A**: at a margin of 18 p rounds to 1 in 100.0 % of 7 images" in said
    assert (
        "goes from 0.995 at 16 to -0.20 (quartiles -0.40 and 0.10); with the loss alone in float64 it is 1.000" in said
    )
    assert "Not seen: B (its images come to a margin of 16, not to the next one)." in said
    assert said.endswith("Up to 25.0 % of gradients vanish.")


def source_of(config: Config) -> db.Source:
    found = db.source_of(config.results / database.FILE)
    assert found is not None
    return found
