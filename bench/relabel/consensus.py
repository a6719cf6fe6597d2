"""Stage: votes become labels. Ballots of everyone, what a rule makes of them, refinement, and the source `consensus`.

A ballot is what one annotator said of one label of one image. Only labels that were shown or searched for count:
others are missing, not "no". Whose ballots count of an image:

- people's, from data/annotations and from imported votes; where one judged an image, simulated ones do not count;
- simulated annotators', elsewhere;
- machines' (`consensus.machines`), beside these: yes for the class that a model answers, no for the others judged.

Refinement, a stage of its own, overrides what the rule decides. An image is decided where none of its labels stays
disputed. Its original label, where nobody judged it (imported votes may only say yes), is disputed without a vote: it
is not dropped because nothing was said of it. The label source `consensus` has the consensus of decided images (which
may be no label at all) and the original label of all others, so that it stands for the whole set; the subset
`annotated` is the decided images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench import compute
from bench.config import Config, Consensus, Statistics
from bench.errors import BenchError
from bench.evaluate import correctness
from bench.evaluate.correctness import CONSENSUS
from bench.frames import Frame
from bench.relabel import agreement, events, rules
from bench.relabel.agreement import MACHINE, SIMULATED
from bench.relabel.rules import COUNTS
from bench.store import tables

if TYPE_CHECKING:
    from pathlib import Path

RULES = ("union", "intersection", "majority", "dawid_skene")
TRUE = ("true", "composed")
"""Sources that are known to be true, of sets that were made here: what rules are held against."""
HUMAN = "human"
BALLOT = ["sample_id", "class_id", "annotator", "kind", "pooled", *COUNTS]


def run(config: Config) -> dict[str, int]:
    """Write results/{votes,ballots,consensus,annotators,agreement,tick_rates,vote_rules,labels,label_sources}.parquet.

    BenchError where a file of annotations is wrong, is about images or classes that there are not, or gives an
    annotator the name of a model; where imported votes are not those that params.yaml pins.
    """
    samples = correctness.evaluated_samples(config)
    given = tables.read("labels", config.results / "given_labels.parquet")
    sources = tables.read("label_sources", config.results / "given_label_sources.parquet")
    said = events.read(config.data / events.FOLDER)
    _check(config, said, samples)
    elsewhere = imported(config)
    _check_names(config, said, elsewhere)
    people = pd.concat([of_events(said), elsewhere], ignore_index=True)
    everyone = pd.concat([people, machines(config, counted(people))], ignore_index=True)
    refinements = events.judged(said, (events.REFINE,))
    dataset_of: Frame = samples.set_index("sample_id")["dataset"]
    everyone = everyone.assign(dataset=everyone["sample_id"].map(dataset_of))
    first = events.judged(said).assign(dataset=lambda frame: frame["sample_id"].map(dataset_of))

    found: dict[str, list[Frame]] = {name: [] for name in (*_MADE, "labels", "label_sources")}
    for dataset in sorted({*everyone["dataset"], *refinements["sample_id"].map(dataset_of)}):
        mine = everyone.loc[everyone["dataset"] == dataset]
        rows = samples.loc[samples["dataset"] == dataset]
        refined = refinements.loc[refinements["sample_id"].map(dataset_of) == dataset]
        decided = decide(mine, refined, rows, config.consensus)
        labels = labels_of(decided, rows)
        found["consensus"].append(decided)
        found["labels"].append(labels.assign(source=CONSENSUS))
        about = described(decided, mine, len(rows), config.consensus)
        found["label_sources"].append(pd.DataFrame({"dataset": [dataset], "source": CONSENSUS, "about": about}))
        found["vote_rules"].append(_rules(config, mine, rows, given, dataset))
        for name, part in _people(config, dataset, mine, first.loc[first["dataset"] == dataset], said).items():
            found[name].append(part)
    found["votes"], found["ballots"] = [said], [everyone[BALLOT]]
    found["labels"].insert(0, given)
    found["label_sources"].insert(0, sources)
    counts = {}
    for name, parts in found.items():
        kept = [part for part in parts if len(part)]
        counts[name] = len(tables.write(name, tables.stacked(name, kept), config.results / f"{name}.parquet"))
    return {name: counts[name] for name in ("votes", "ballots", "consensus", "labels")}


_MADE = ("votes", "ballots", "consensus", "annotators", "agreement", "tick_rates", "vote_rules")


def of_events(said: Frame) -> Frame:
    """Ballots of the events (table `votes`) that count in the first stage."""
    mine = events.judged(said)
    flags = {f"n_{action}": (mine["action"] == action).astype(int) for action in events.ANSWERS}
    return mine[["sample_id", "class_id", "annotator", "kind"]].assign(pooled=False, **flags)[BALLOT]


def imported(config: Config) -> Frame:
    """Ballots of the imported votes that params.yaml pins. BenchError where a file is missing or another one."""
    parts = [pd.DataFrame(columns=BALLOT)]
    for dataset, declared in config.datasets.items():
        for source, held in declared.votes.items():
            path = config.imported_votes(dataset, source)
            _check_pin(path, held.sha256, dataset, source, declared.fetched)
            frame: Frame = tables.read("imported_votes", path)
            parts.append(frame.assign(kind=held.kind, pooled=held.pooled, n_unsure=0)[BALLOT])
    return pd.concat(parts[1:] or parts, ignore_index=True)


def machines(config: Config, ballots: Frame) -> Frame:
    """Ballots of the models of `consensus.machines` on every label that is judged in these ballots, which count."""
    parts = [pd.DataFrame(columns=BALLOT)]
    wanted = config.consensus.machines
    judged = ballots[["sample_id", "class_id"]].drop_duplicates()
    datasets = judged["sample_id"].str.split("/", n=1).str[0]
    for dataset in config.datasets if wanted else ():
        pairs = judged.loc[datasets == dataset]
        if pairs.empty:
            continue
        answers = correctness.answers(config, dataset)
        row = pd.Index(answers.ids).get_indexer(pd.Index(pairs["sample_id"]))
        for model in (name for name in wanted if name in answers.models):
            given = answers.pred[answers.models.index(model), row]
            parts.append(machine(pairs, model, given))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def machine(pairs: Frame, model: str, answers: np.ndarray) -> Frame:
    """Ballots of a model on pairs (sample_id, class_id), from its answer to the image of each, (P,)."""
    yes = pairs["class_id"].to_numpy(np.int64) == answers
    counts = {"n_yes": yes.astype(int), "n_no": (~yes).astype(int), "n_unsure": 0}
    return pairs.assign(annotator=model, kind=MACHINE, pooled=False, **counts)[BALLOT]


def counted(ballots: Frame) -> Frame:
    """The ballots that count: where a person judged an image, simulated ones on it do not."""
    seen = ballots.loc[ballots["kind"] == HUMAN, "sample_id"].unique()
    return ballots.loc[(ballots["kind"] != SIMULATED) | ~ballots["sample_id"].isin(seen)]


def decide(ballots: Frame, refinements: Frame, samples: Frame, settings: Consensus) -> Frame:
    """Table `consensus` of one dataset: what the rule makes of its ballots, overridden by refinements.

    ballots: BALLOT; refinements: the answers that count of the stage `refine` (sample_id, class_id, annotator, action);
    samples: sample_id and label of its test images.
    """
    kept = counted(ballots)
    decided = rules.refined(rules.decide(kept, settings), refinements)
    decided = with_original(decided, samples, settings.rule)
    return decided.assign(basis=decided["sample_id"].map(_bases(kept)).fillna(HUMAN))


def with_original(decided: Frame, samples: Frame, method: str) -> Frame:
    """Decisions, and a disputed one without votes of each image whose original label nobody judged."""
    original = samples[["sample_id", "label"]].rename(columns={"label": "class_id"})
    original = original.loc[original["sample_id"].isin(decided["sample_id"].unique())]
    judged = pd.MultiIndex.from_frame(decided[rules.PAIR])
    lacking = original.loc[~pd.MultiIndex.from_frame(original).isin(judged)]
    if lacking.empty:
        return decided
    nothing = {"score": 0.5, **dict.fromkeys(COUNTS, 0), "state": rules.DISPUTED, "method": method}
    both: Frame = pd.concat([decided, lacking.assign(**nothing)[decided.columns]])
    return both.sort_values(rules.PAIR, ignore_index=True)


def _bases(ballots: Frame) -> Frame:
    """sample_id -> whose votes there are, in words joined by ` + `."""
    kind = np.where(ballots["pooled"].astype(bool), POOLED, ballots["kind"])
    ids, names = pd.factorize(ballots["sample_id"])
    found = np.bincount(ids, minlength=len(names)) * 0
    for place, name in enumerate(_BASIS):
        found |= (np.bincount(ids, kind == name, minlength=len(names)) > 0).astype(int) << place
    said = [" + ".join(name for place, name in enumerate(_BASIS) if flags >> place & 1) for flags in range(16)]
    return pd.Series(np.array(said, object)[found], index=names)


POOLED = "pooled"
_BASIS = (HUMAN, SIMULATED, POOLED, MACHINE)


def undecided(decided: Frame) -> set[str]:
    """Images of which a label stays disputed."""
    return set(decided.loc[decided["state"] == "disputed", "sample_id"])


def labels_of(decided: Frame, samples: Frame) -> Frame:
    """sample_id, class_id, weight of the label source `consensus` of one dataset.

    decided: table `consensus`; samples: its test images, sample_id and label. Decided images have the labels said yes
    to, with their scores; all others the original label.
    """
    open_ones = undecided(decided)
    settled = decided.loc[~decided["sample_id"].isin(open_ones)]
    yes = settled.loc[settled["state"] == "yes", ["sample_id", "class_id", "score"]]
    rest = samples.loc[~samples["sample_id"].isin(settled["sample_id"]), ["sample_id", "label"]]
    rest = rest.rename(columns={"label": "class_id"}).assign(weight=1.0)
    return pd.concat([yes.rename(columns={"score": "weight"}), rest], ignore_index=True)


def described(decided: Frame, ballots: Frame, n: int, settings: Consensus) -> str:
    """In words, whose consensus it is and how far it reaches, for table `label_sources`."""
    kept = counted(ballots)
    together = kept["pooled"].to_numpy(bool)
    voters = kept.loc[~together].drop_duplicates("annotator")["kind"].value_counts()
    names = {HUMAN: "annotator", SIMULATED: "simulated annotator", MACHINE: "model"}
    who = [f"{k} {names[kind]}{'s' * (k > 1)}" for kind in names if (k := int(voters.get(kind, 0)))]
    pooled = sorted(kept.loc[together, "annotator"].unique())
    who = [f"the pooled votes {name}" for name in pooled] + who
    who = [", ".join(who[:-1]), who[-1]] if len(who) > 2 else who
    images, left = decided["sample_id"].nunique(), len(undecided(decided))
    rule = {"dawid_skene": "Dawid and Skene's estimate"}.get(settings.rule, settings.rule)
    refined = decided.loc[decided["method"] == "refined", "sample_id"].nunique()
    said = f"Consensus ({rule}) of {' and '.join(who) or 'refinement alone'} on {images - left:,} of {n:,} images"
    said += f", {refined:,} of them refined" if refined else ""
    rest = n - images + left
    return f"{said}; the original label on the other {rest:,}." if rest else f"{said}."


def _rules(config: Config, ballots: Frame, rows: Frame, given: Frame, dataset: str) -> Frame:
    """Table `vote_rules` of one dataset."""
    kept, out = counted(ballots), []
    original = rows.set_index("sample_id")["label"]
    mine = given.loc[given["sample_id"].isin(original.index)]
    known = next((source for source in TRUE if (mine["source"] == source).any()), None)
    truth = mine.loc[mine["source"] == known, ["sample_id", "class_id"]] if known else None
    for rule in RULES:
        decided = with_original(rules.decide(kept, config.consensus, rule), rows, rule)
        out.append({"rule": rule, **rules.shape(decided, original, truth, known, config.statistics.confidence)})
    return pd.DataFrame(out).assign(dataset=dataset)


def _people(config: Config, dataset: str, ballots: Frame, judged: Frame, said: Frame) -> dict[str, Frame]:
    """Tables annotators, agreement and tick_rates of one dataset: of everyone whose single votes are known."""
    statistics: Statistics = config.statistics
    single = ballots.loc[~ballots["pooled"].astype(bool)]
    if single.empty:
        return {}
    action = np.select([single["n_yes"] > 0, single["n_no"] > 0], ["yes", "no"], "unsure")
    answers = single[["sample_id", "class_id", "annotator", "kind"]].assign(action=action)
    seed = compute.seed_of(config.seed, "agreement", dataset)
    estimates = rules.estimates(counted(single), config.consensus)
    kept = counted(answers)
    people = kept.loc[kept["kind"] != MACHINE]
    return {
        "annotators": agreement.annotators(answers, kept, said, estimates, dataset),
        "agreement": agreement.agreement(people, dataset, seed, statistics.bootstrap, statistics.confidence),
        "tick_rates": agreement.tick_rates(judged, dataset, statistics.confidence),
    }


def _check(config: Config, said: Frame, samples: Frame) -> None:
    where = config.data / events.FOLDER
    described = tables.read("datasets", config.results / "datasets.parquet").set_index("dataset")["n_classes"]
    dataset_of = dict(zip(samples["sample_id"], samples["dataset"], strict=True))
    if (fault := events.unknown(said, dataset_of, described.to_dict())) is not None:
        raise BenchError(
            f"{fault}.",
            where=where,
            remedy="Its dataset was removed or renamed: bring it back, or remove the files that are about it.",
        )


def _check_names(config: Config, said: Frame, elsewhere: Frame) -> None:
    """Nobody who annotated here has the name of a model, or of somebody whose votes were imported."""
    names = set(said["annotator"])
    models = {*config.models, *config.imported, *config.uncertainty.ensembles}
    for others, what, remedy in (
        (models, "a model", "Give the model another name in params.yaml."),
        (
            set(elsewhere["annotator"]),
            "somebody whose votes were imported",
            "Import those votes under another --source.",
        ),
    ):
        if taken := names & others:
            raise BenchError(
                f"{sorted(taken)[0]!r} is the name of an annotator and of {what}.",
                where=config.data / events.FOLDER,
                remedy=remedy,
            )


def _check_pin(path: Path, pin: str, dataset: str, source: str, preset: str | None) -> None:
    again = f"Import them again with `bench import votes FILE --source {source} --dataset {dataset}`"
    again = again if preset is None else f"Fetch them again with `bench data fetch {preset}`"
    if not path.is_file():
        raise BenchError("is missing.", where=path, remedy=f"Run `dvc pull data.dvc`. {again}.")
    if tables.sha256(path) != pin:
        raise BenchError(
            f"is not the file that params.yaml pins (datasets.{dataset}.votes.{source}).",
            where=path,
            remedy=f"{again}, or remove the entry.",
        )
