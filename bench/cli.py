"""`bench ...`: one subcommand per stage, plus data, snapshot, report and prune. Heavy imports wait until used."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench import progress
from bench.config import Config, load
from bench.errors import BenchError

os.environ["OPENBLAS_NUM_THREADS"] = "1"
"""Before numpy is loaded: the last bits of its products would else go by the number of processors, and with them the
bytes of results. torch has threads of its own (`compute.threads`)."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A second look at image-classification results. Stages are run by `dvc repro`; each is also a command.",
)
data_app = typer.Typer(no_args_is_help=True, help="Build, fetch and complete datasets.")
preset_app = typer.Typer(no_args_is_help=True, help="Ready-made datasets and models to add to params.yaml.")
import_app = typer.Typer(no_args_is_help=True, help="Bring predictions, labels and votes that were made elsewhere.")
snapshot_app = typer.Typer(no_args_is_help=True, help="Publish, list and open versioned results.")
app.add_typer(data_app, name="data")
app.add_typer(preset_app, name="preset")
app.add_typer(import_app, name="import")
annotate_app = typer.Typer(no_args_is_help=True, help="Commit, export and simulate annotations.")
app.add_typer(annotate_app, name="annotate")
app.add_typer(snapshot_app, name="snapshot")

INTERRUPTED = 130
"""The exit status that typer turns Ctrl-C into."""
ModelName = Annotated[str, typer.Argument(help="a name under `models` in params.yaml")]
ClassKind = Literal["index", "name", "wnid"]
ScoreKind = Literal["logits", "probabilities"]
VoterKind = Literal["human", "machine", "simulated"]
ExportFormat = Literal["refined", "parquet", "csv", "fiftyone"]


def _run(name: str, work: Callable[[Config], dict[str, int]]) -> None:
    config = load()
    progress.stage(name, lambda: work(config), config.results)


def _share(text: str) -> tuple[int, int]:
    """I and N of `I/N`. BenchError where it is none of 1/N to N/N."""
    match = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise BenchError(f"{text!r} is no share.", where="--shard", remedy="Say 1/4, 2/4, 3/4 or 4/4.")
    return int(match[1]), int(match[2])


@data_app.command("build")
def data_build(
    preset: Annotated[str, typer.Argument(help="what to build: digits")],
    out: Annotated[Path, typer.Option(help="the folder to write to")] = Path("data"),
) -> None:
    """Write the datasets of a preset from installed packages: the same bytes every time."""
    from bench.data import build

    build.run(preset, out)


@data_app.command("fetch")
def data_fetch(
    preset: Annotated[str, typer.Argument(help="a preset of `bench preset list`")],
    source: Annotated[
        Path | None, typer.Option("--from", help="a local folder in place of the official sources")
    ] = None,
) -> None:
    """Get the data of a preset that may not be passed on into fetched/, verified against the preset's manifest."""
    from bench.data import fetch
    from bench.presets import preset as presets

    config = load()
    typer.echo(fetch.run(presets.load(preset), config.fetched, source, config.pinned))


@data_app.command("attach")
def data_attach(
    preset: Annotated[str, typer.Argument(help="the preset that fetched the dataset")],
    dataset: Annotated[str, typer.Option(help="one of its datasets")],
    images: Annotated[Path, typer.Option(help="a folder of images, with or without folders of classes in it")],
) -> None:
    """Make small pictures of your own copy of a dataset's images, to be shown by the dashboard here."""
    from bench.data import attach

    typer.echo(attach.run(load(), preset, dataset, images))


@data_app.command("check")
def data_check(
    original: Annotated[str, typer.Argument(help="a name under `datasets` in params.yaml")],
    other: Annotated[str, typer.Argument(help="the dataset to hold against it, e.g. its replication")],
    strict: Annotated[bool, typer.Option("--strict", help="exit status 1 where a check finds something")] = False,
) -> None:
    """Tell whether two sets are balanced, share images, and are encoded and labelled alike."""
    from bench.data import pair

    report = pair.check(load(), original, other)
    typer.echo(report.text())
    if strict and report.found:
        raise typer.Exit(1)


@preset_app.command("add")
def preset_add(
    name: Annotated[str, typer.Argument(help="a preset of `bench preset list`")],
    source: Annotated[Path | None, typer.Option("--from", help="also fetch its data, from this local folder")] = None,
) -> None:
    """Merge a preset into params.yaml: nothing else in the file changes."""
    from bench.data import fetch
    from bench.presets import merge
    from bench.presets import preset as presets

    preset, config = presets.load(name), load()
    if source is not None:
        typer.echo(fetch.run(preset, config.fetched, source, config.pinned))
    typer.echo(merge.add(Path("params.yaml"), name))
    needed = preset.fetches and not preset.pinned_here and source is None
    typer.echo(f"Next: {f'`bench data fetch {name}`, then ' if needed else ''}`dvc repro`.")


@preset_app.command("remove")
def preset_remove(
    name: Annotated[str, typer.Argument(help="a preset of `bench preset list`")],
    force: Annotated[bool, typer.Option("--force", help="also remove entries that were changed since")] = False,
    files: Annotated[bool, typer.Option("--files", help="also remove what it fetched")] = False,
) -> None:
    """Take out of params.yaml what a preset added."""
    from bench.presets import merge

    typer.echo(merge.remove(Path("params.yaml"), name, force=force, files=files))


@preset_app.command("list")
def preset_list() -> None:
    """List the presets: what each adds, whether it is added and fetched."""
    from bench.presets import merge

    typer.echo("\n".join(merge.listed(Path("params.yaml"))))


@import_app.command("predictions")
def import_predictions(
    files: Annotated[list[Path], typer.Argument(help="Parquet, CSV, JSON, .npy or .npz: the parts of one table")],
    model: Annotated[str, typer.Option(help="the name to give it, as published")],
    dataset: Annotated[str, typer.Option(help="a name under `datasets` in params.yaml")],
    origin: Annotated[str, typer.Option(help="where the predictions come from; the files' names if not given")] = "",
    family: Annotated[str | None, typer.Option(help="supervised or ssl")] = None,
    method: Annotated[str | None, typer.Option(help="e.g. dino")] = None,
    arch: Annotated[str | None, typer.Option(help="e.g. vit_base")] = None,
    order: Annotated[Path | None, typer.Option(help="a file with the ids that rows without a key are of")] = None,
    in_order: Annotated[bool, typer.Option("--in-order", help="rows are in the order of the dataset")] = False,
    one_based: Annotated[bool, typer.Option("--one-based", help="class indices are counted from 1")] = False,
    percent: Annotated[bool, typer.Option("--percent", help="probabilities are in percent")] = False,
    classes: Annotated[ClassKind | None, typer.Option(help="what classes are given as")] = None,
    scores: Annotated[ScoreKind | None, typer.Option(help="what scores of all classes are")] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="even if other classes or another order fit better")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only check, and say what was understood")] = False,
) -> None:
    """Check one model's answers to a dataset, keep them in data/imported and list the model in params.yaml."""
    from bench.imports import predictions

    typer.echo(
        predictions.run(
            load(),
            files,
            model,
            dataset,
            predictions.Options(order, in_order, one_based, percent, classes, scores, as_is),
            predictions.Origin(origin, family, method, arch),
            dry_run=dry_run,
        )
    )


@import_app.command("labels")
def import_labels(
    file: Annotated[Path, typer.Argument(help="JSON, Parquet, CSV, .npy or .npz: one or several labels an image")],
    source: Annotated[str, typer.Option(help="the name to give these labels")],
    dataset: Annotated[str, typer.Option(help="a name under `datasets` in params.yaml")],
    process: Annotated[str, typer.Option(help="how they were made, in words")] = "",
    order: Annotated[Path | None, typer.Option(help="a file with the ids that rows without a key are of")] = None,
    in_order: Annotated[bool, typer.Option("--in-order", help="rows are in the order of the dataset")] = False,
    one_based: Annotated[bool, typer.Option("--one-based", help="class indices are counted from 1")] = False,
    classes: Annotated[ClassKind | None, typer.Option(help="what classes are given as")] = None,
    min_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="keep classes with a share of votes above this")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="images that are left out have no labels")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only check, and say what was understood")] = False,
) -> None:
    """Check another source of labels of a dataset, keep it in data/imported and pin it in params.yaml."""
    from bench.imports import labels

    options = labels.Options(order, in_order, one_based, classes, min_share, partial)
    typer.echo(labels.run(load(), file, source, dataset, process, options, dry_run=dry_run))


@import_app.command("votes")
def import_votes(
    file: Annotated[Path, typer.Argument(help="counts of every class, or a row for each annotator's answer")],
    source: Annotated[str, typer.Option(help="the name to give these votes")],
    dataset: Annotated[str, typer.Option(help="a name under `datasets` in params.yaml")],
    process: Annotated[str, typer.Option(help="how they were cast, in words")] = "",
    kind: Annotated[VoterKind, typer.Option(help="who cast them")] = "human",
    order: Annotated[Path | None, typer.Option(help="a file with the ids that rows without a key are of")] = None,
    in_order: Annotated[bool, typer.Option("--in-order", help="rows are in the order of the dataset")] = False,
    one_based: Annotated[bool, typer.Option("--one-based", help="class indices are counted from 1")] = False,
    classes: Annotated[ClassKind | None, typer.Option(help="what classes are given as")] = None,
    single_choice: Annotated[
        bool, typer.Option("--single-choice", help="each row chose one of all classes, and said no to the others")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only check, and say what was understood")] = False,
) -> None:
    """Check votes that were cast elsewhere, keep them in data/imported and pin them in params.yaml."""
    from bench.imports import votes

    options = votes.Options(order, in_order, one_based, classes, single_choice)
    typer.echo(votes.run(load(), file, source, dataset, process, kind, options, dry_run=dry_run))


@import_app.command("remove")
def import_remove(
    model: Annotated[str | None, typer.Option(help="an imported model")] = None,
    source: Annotated[str | None, typer.Option(help="an imported source of labels")] = None,
    votes: Annotated[str | None, typer.Option(help="an imported source of votes")] = None,
    dataset: Annotated[str | None, typer.Option(help="with --source or --votes, or for one dataset of a model")] = None,
) -> None:
    """Take an imported model or source of labels or votes out of params.yaml and data/imported."""
    from bench.imports import labels, predictions
    from bench.imports import votes as imported_votes

    if sum(name is not None for name in (model, source, votes)) != 1 or (model is None and dataset is None):
        raise BenchError(
            "say what to remove.",
            where="bench import remove",
            remedy="Give --model NAME, or --dataset and either --source or --votes.",
        )
    config = load()
    if model is not None:
        typer.echo(predictions.remove(config, model, dataset))
    elif source is not None and dataset is not None:
        typer.echo(labels.remove(config, source, dataset))
    elif votes is not None and dataset is not None:
        typer.echo(imported_votes.remove(config, votes, dataset))


@annotate_app.command("status")
def annotate_status() -> None:
    """Say what was annotated and is not committed yet."""
    from bench.relabel import commit

    typer.echo(commit.status(load()))


@annotate_app.command("commit")
def annotate_commit(
    message: Annotated[str, typer.Option("--message", "-m", help="of the git commit")] = "",
    no_git: Annotated[bool, typer.Option("--no-git", help="track with DVC only")] = False,
) -> None:
    """Write what was annotated to data/annotations, one file an annotator and sitting, and commit it."""
    from bench.relabel import commit

    typer.echo(commit.run(load(), message, git=not no_git))


@annotate_app.command("simulate")
def annotate_simulate(
    dataset: Annotated[str, typer.Argument(help="a set that labels are proposed for")],
    truth: Annotated[str, typer.Option(help="the label source that is taken as true")],
    images: Annotated[int, typer.Option(min=1, help="how many images, in random order")] = 150,
) -> None:
    """Add votes of simulated annotators, who know the true labels and make mistakes; marked as simulated everywhere."""
    from bench.relabel import simulate

    counts = simulate.run(load(), dataset, truth, images)
    typer.echo(f"{', '.join(f'{n:,} {what}' for what, n in counts.items())}. Next: `dvc add data`, `dvc repro`.")


@annotate_app.command("export")
def annotate_export(
    dataset: Annotated[str, typer.Option(help="a name under `datasets` in params.yaml")],
    out: Annotated[Path, typer.Option(help="the file to write")],
    form: Annotated[ExportFormat, typer.Option("--format", help="refined: JSON as Multilabelfy's; csv: for cleanlab")],
    source: Annotated[str, typer.Option(help="a source of labels")] = "consensus",
    extension: Annotated[
        str | None, typer.Option(help="of the names of files; that of the pictures, else .jpeg, if not given")
    ] = None,
    one_hot: Annotated[bool, typer.Option("--one-hot", help="csv: also a column of 0 and 1 a class")] = False,
) -> None:
    """Write the labels of one source for other programs (bench/relabel/export.py says how to load them)."""
    from bench.relabel import export

    typer.echo(export.run(load(), dataset, source, form, out, extension, one_hot=one_hot))


@app.command()
def index() -> None:
    """Read and check every declared dataset; write its samples, labels, classes and pictures."""
    from bench.data import index as stage

    _run("index", stage.run)


@app.command()
def imported() -> None:
    """Check the imported predictions against their datasets; write them as results."""
    from bench.imports import stage

    _run("imported", stage.run)


@app.command("ssl-study")
def ssl_study() -> None:
    """Stage: are networks that were trained without labels more robust than ones that were trained with them?"""
    from bench.studies import ssl as stage

    _run("ssl-study", stage.run)


@app.command("transfer-study")
def transfer_study() -> None:
    """Does it matter on which images transfer attacks are tried (study 6)?"""
    from bench.studies import transfer as stage

    _run("transfer-study", stage.run)


@app.command("attack-images")
def attack_images(
    attack: Annotated[str, typer.Argument(help="a name under `attacks.runs` in params.yaml")],
    eps: Annotated[float, typer.Argument(help="in 1/255, one of the attack's")],
    model: Annotated[str, typer.Argument(help="on which the images are made")],
    out: Annotated[Path, typer.Argument(help="a new folder")],
    image: Annotated[list[str] | None, typer.Option(help="id of an image: only this one; may be repeated")] = None,
    onto: Annotated[str | None, typer.Option(help="of a run with `stop: transfer`: the model that was asked")] = None,
) -> None:
    """Make the images of an attack again: a PNG each, and all of them as floats in one NPZ."""
    from bench.attacks import remake

    config = load()
    found = remake.attacked(config, attack, eps, model, image or None, onto)
    typer.echo(f"{len(found.ids):,} images in {remake.write(found, out)}.")


@app.command()
def regional() -> None:
    """Do attacks on a part of an image still transfer, and are they smaller (study 8)?"""
    from bench.studies import regional as stage

    _run("regional", stage.run)


@app.command()
def objectives() -> None:
    """Which objective moves images to a target class with the fewest steps (study 9)?"""
    from bench.studies import objectives as stage

    _run("objectives", stage.run)


@app.command()
def detection() -> None:
    """Are adversarial images told from clean ones, and does retraining with them help (study 9)?"""
    from bench.studies import detection as stage

    _run("detection", stage.run)


@app.command()
def segmentation() -> None:
    """Can an attack make a segmentation network draw any mask (study 10)?"""
    from bench.studies import segmentation as stage

    _run("segmentation", stage.run)


@app.command()
def collisions() -> None:
    """Can two different images be one to a network (study 4)?"""
    from bench.studies import collisions as stage

    _run("collisions", stage.run)


@app.command()
def radar() -> None:
    """Do attacks on radar sequences carry over, and is padding enough for them (study 7)?"""
    from bench.studies import radar as stage

    _run("radar", stage.run)


@app.command()
def misclassification() -> None:
    """What are images taken for that an attack carries over to another model (study 5)?"""
    from bench.studies import misclassification as stage

    _run("misclassification", stage.run)


@app.command("label-study")
def label_study() -> None:
    """How many labels images have, and what that does to accuracy (study 1)."""
    from bench.studies import labels as stage

    _run("label-study", stage.run)


@app.command()
def train(model: ModelName) -> None:
    """Train one network (or make a control) and fit its head."""
    from bench.models import train as stage

    _run(f"train {model}", lambda config: stage.run(config, model))


@app.command()
def probe(model: ModelName) -> None:
    """Fit heads on the features of one model: linear, nearest neighbours, with few and with wrong labels."""
    from bench.evaluate import probe as stage

    _run(f"probe {model}", lambda config: stage.run(config, model))


@app.command()
def predict(model: ModelName) -> None:
    """Run one model over every dataset of its suite, clean and corrupted."""
    from bench.evaluate import predict as stage

    _run(f"predict {model}", lambda config: stage.run(config, model))


@app.command()
def uncertainty() -> None:
    """Uncertainty of every prediction, calibration of every model, and the ensembles."""
    from bench.evaluate import uncertainty as stage

    _run("uncertainty", stage.run)


@app.command()
def attack(
    shard: Annotated[
        str, typer.Option(help="I/N: only make and keep every N-th shard from the I-th on, for `bench attack` to use")
    ] = "",
) -> None:
    """Attack the models of the pool on the declared subset."""
    from bench.attacks import attack as stage

    if not shard:
        _run("attack", stage.run)
        return
    number, of = _share(shard)
    _run(f"attack {shard}", lambda config: stage.share(config, number, of))


@app.command()
def neighbours() -> None:
    """Nearest test images in the feature space of one encoder."""
    from bench.evaluate import neighbours as stage

    _run("neighbours", stage.run)


@app.command()
def maps() -> None:
    """Map images, and find the nearest of each, in the feature space of every encoder."""
    from bench.evaluate import maps as stage

    _run("maps", stage.run)


@app.command()
def proposals() -> None:
    """Ranked label proposals per image."""
    from bench.relabel import proposals as stage

    _run("proposals", stage.run)


@app.command()
def consensus() -> None:
    """Votes become labels: the label source `consensus`, and how far the annotators agree."""
    from bench.relabel import consensus as stage

    _run("consensus", stage.run)


@app.command()
def subsets() -> None:
    """Named sets of test images."""
    from bench.evaluate import subsets as stage

    _run("subsets", stage.run)


@app.command()
def metrics() -> None:
    """Every figure of every model on every dataset, condition and subset, with intervals."""
    from bench.evaluate import metrics as stage

    _run("metrics", stage.run)


@app.command()
def replication() -> None:
    """The gap of every model between an original and every set held against it."""
    from bench.evaluate import replication as stage

    _run("replication", stage.run)


@app.command()
def comparisons() -> None:
    """Every pair of models on the same images, and the ranks that follow."""
    from bench.evaluate import comparisons as stage

    _run("comparisons", stage.run)


@app.command()
def database() -> None:
    """Build results/bench.duckdb from all Parquet (a new file, then an atomic rename)."""
    from bench.store import database as stage

    _run("database", stage.run)


@app.command()
def report(
    times: Annotated[bool, typer.Option("--times", help="also print the seconds of each stage")] = False,
) -> None:
    """Print the headline table from results/bench.duckdb; build that file first where it is missing or stale."""
    from bench.store import report as printer

    printer.run(load(), times=times)


@app.command()
def prune(dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False) -> None:
    """Remove results of models and stages that params.yaml no longer lists, and kept images that none needs."""
    from bench.store import prune as pruner

    pruner.run(load(), dry_run=dry_run)


@app.command()
def serve(port: Annotated[int, typer.Option(help="the port to listen on")] = 8501) -> None:
    """Show the dashboard; pull the released results first where there are none."""
    from bench import serve as server

    server.run(load(), port)


@snapshot_app.command("publish")
def snapshot_publish(
    name: Annotated[str, typer.Argument(help="the tag to make, e.g. digits-v1")],
    aggregates: Annotated[
        str, typer.Option(metavar="SUITE", help="release only this suite, without rows of single images")
    ] = "",
    conditions: Annotated[
        str, typer.Option(metavar="A,B,...", help="with rows of single images under these, such as clean")
    ] = "",
    checkpoints: Annotated[bool, typer.Option(help="with the networks of the suite that were trained here")] = False,
) -> None:
    """Release the current results: push, manifest, commit, tag. Refuses a dirty tree or stale stages."""
    from bench.store import snapshot

    if not aggregates and (conditions or checkpoints):
        raise typer.BadParameter("goes with --aggregates", param_hint="--conditions, --checkpoints")
    if aggregates:
        chosen = [one for one in conditions.split(",") if one]
        snapshot.publish_aggregates(load(), name, aggregates, chosen, checkpoints=checkpoints)
    else:
        snapshot.publish(load(), name)


@snapshot_app.command("list")
def snapshot_list() -> None:
    """List the released snapshots."""
    from bench.store import snapshot

    snapshot.show(load())


@snapshot_app.command("open")
def snapshot_open(rev: Annotated[str, typer.Argument(help="a snapshot's name, a tag or a commit")]) -> None:
    """Build the database of an earlier snapshot, without a checkout, and print its path."""
    from bench.store import snapshot

    typer.echo(snapshot.open_revision(load(), rev))


def main() -> None:
    """Run the command line; a BenchError becomes one message and exit status 1, Ctrl-C exit status 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while others run cost 5 times the seconds
    try:
        app()
    except BenchError as error:
        typer.secho(f"bench: {error}", fg="red", err=True)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("bench: stopped; nothing was left half-written. `dvc repro` goes on where it can.", err=True)
        raise


if __name__ == "__main__":
    main()
