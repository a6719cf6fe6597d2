"""The dashboard: navigation, snapshot picker and the shared filter bar; nothing else."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NoReturn

import streamlit as st

from bench import config as configuration
from bench.errors import BenchError
from bench.store import bits, database, snapshot
from dashboard import db, state, terms

HERE = Path(__file__).parent
STYLE = "<style>.stMainBlockContainer {padding-top: 4.5rem; padding-bottom: 3rem}</style>"

# Page -> title in the menu, icon, and the parts of the filter bar that it uses.
# The scripts are not in a folder `pages`: Streamlit would run those by themselves until st.navigation was called once.
PAGES = {
    "overview": ("Overview", ":material/leaderboard:", ("families", "models", "dataset", "subset", "labels")),
    "filter": ("Filter", ":material/filter_alt:", ("families", "models", "dataset", "subset", "labels")),
    "replication": ("Replication", ":material/compare_arrows:", ("families", "models", "dataset")),
    "labels": ("Labels", ":material/sell:", ("families", "models", "dataset", "labels")),
    "ssl": ("SSL", ":material/hub:", ("families", "models", "dataset")),
    "attacks": ("Attacks", ":material/bolt:", ("dataset",)),
    "segmentation": ("Segmentation", ":material/draw:", ()),
    "collisions": ("Collisions", ":material/difference:", ()),
    "map": ("Map", ":material/scatter_plot:", ("dataset", "labels")),
    "methods": ("Methods", ":material/account_tree:", ()),
    "samples": ("Samples", ":material/grid_view:", ("families", "models", "dataset", "subset", "labels")),
    "relabel": ("Proposals", ":material/label:", ("dataset",)),
    "annotate": ("Annotate", ":material/edit_note:", ("dataset",)),
    "agreement": ("Agreement", ":material/groups:", ("dataset",)),
    "relabelled": ("Relabelled", ":material/published_with_changes:", ("dataset",)),
    "snapshot": ("Snapshot", ":material/fingerprint:", ()),
    "radar": ("Radar", ":material/radar:", ()),
}
BEYOND = ("collisions", "segmentation", "radar")
"""Pages of the menu's group "Beyond labels": studies of something else than one label an image."""


def show_instead(name: str) -> None:
    """A button that shows the results `name`, all else in the address as it is."""
    st.button("Show what is here instead", on_click=st.query_params.update, args=({"snap": name},))


def stop(title: str, what: str, command: str, more: str = "", instead: str = "") -> NoReturn:
    """Say what is missing and which command makes it; nothing else of the page is shown, but a way to `instead`."""
    st.title(title, anchor=False)
    st.markdown(what)
    st.code(command, language="bash")
    if more:
        st.caption(more)
    if instead:
        show_instead(instead)
    st.stop()


@st.cache_data(ttl=30, show_spinner=False)
def released(root: str) -> list[tuple[str, str | None]]:
    """Names of the released snapshots, and the database of each where it was opened here."""
    found = snapshot.available(configuration.load(Path(root) / "params.yaml"))
    return [(one.name, str(one.path) if one.path else None) for one in found]


def local(config: configuration.Config) -> tuple[db.Source | None, str]:
    """The database of the results that lie here, and its name in the URL: the release that they are, else their id."""
    source = db.source_of(config.results / database.FILE)
    if source is None or db.fault(source):
        return source, ""
    facts = db.snapshot(source)
    return source, facts.get("release") or facts["snapshot_id"]


def pick(config: configuration.Config, wanted: str) -> tuple[db.Source, str]:
    """The database to show, and its name in the URL. Stops with a page that says what to do where there is none.

    A link to results that are not here any more says so, and never silently shows others.
    """
    source, name = local(config)
    names = dict(released(str(config.root)))
    if wanted in names and wanted != name:
        path = names[wanted]
        opened = db.source_of(Path(path)) if path else None
        if opened is not None and not db.fault(opened):
            return opened, wanted
        what = f"`{wanted}` is released. Open it with"
        stop("This snapshot is not open yet", what, f"bench snapshot open {wanted}", instead=name)
    if source is None:
        stop(
            "No results yet",
            "There is no database to show. Compute all results from the data (some minutes), or get the released ones:",
            "make repro        # compute everything\nmake dashboard    # get the released results and show them",
        )
    fault = db.fault(source)
    if fault:
        stop("The database cannot be shown", f"`results/bench.duckdb`: {fault}. Build it again with", "bench database")
    if db.is_outdated(source, config.results / database.HASHES):
        stop(
            "The database is outdated",
            "The results have changed since `results/bench.duckdb` was built. Build it again (seconds) with",
            "bench database",
            "`make dashboard` does this by itself.",
        )
    if wanted and wanted != name:
        st.title("This link shows other results", anchor=False)
        st.markdown(
            "It was made for results that are not here: they have changed since, or they are a snapshot that is not "
            "released. The snapshots known here are listed by"
        )
        st.code("bench snapshot list", language="bash")
        show_instead(name)
        st.stop()
    return source, name


def pick_snapshot(config: configuration.Config) -> None:
    """The snapshot picker."""
    _, here = local(config)
    names = [name for name, _ in released(str(config.root))]
    state.bound(
        st.selectbox,
        "Snapshot",
        "snap",
        options=names if here in names or not here else [here, *names],
        format_func=lambda name: name if name in names else "Local",
        help="Which results are shown: the local ones, or a released version.",
    )


def pick_models(catalogue: db.Catalogue, view: state.View) -> None:
    """The picker of models: single ones and whole groups, of those that answer to the chosen set."""
    here = catalogue.answering.get(view.dataset, frozenset())
    groups = [token for token, (_, models) in catalogue.groups.items() if models & here]
    single = [model for model in catalogue.models["model"] if model in here]
    options = [*groups, *single]
    names = {token: name for token, (name, _) in catalogue.groups.items()} | catalogue.names
    state.bound(
        st.multiselect,
        "Models",
        "models",
        options=[*options, *(one for one in view.models if one not in set(options))],
        format_func=lambda one: names.get(one, one),
        placeholder=f"All {len(single)} models",
        max_selections=state.MOST,
        help=terms.HELP["models"],
    )


def filter_bar(catalogue: db.Catalogue, used: tuple[str, ...], config: configuration.Config) -> None:
    """Filters that all pages share; a page shows those that it uses."""
    view = state.current()
    widths = {"families": 1.9, "models": 2, "dataset": 1.8, "subset": 1.6, "labels": 1.4}
    shown = [field for field in widths if field in used]
    columns = st.columns([*(widths[field] for field in shown), 1.2] + ([6.0] if not shown else []))
    for field, column in zip(shown, columns, strict=False):
        with column:
            if field == "families":
                state.bound(
                    st.multiselect,
                    "Families of models",
                    "families",
                    options=catalogue.families,
                    format_func=terms.FAMILY.get,
                    placeholder="All families",
                    help=terms.HELP["families"],
                )
            elif field == "models":
                pick_models(catalogue, view)
            elif field == "dataset":
                about = catalogue.datasets.at[view.dataset, "about"]
                state.bound(
                    st.selectbox,
                    "Set of images",
                    "dataset",
                    options=catalogue.datasets.index.tolist(),
                    format_func=catalogue.dataset_name,
                    help=f"{catalogue.dataset_name(view.dataset)}: {about}",
                )
            elif field == "subset":
                state.bound(
                    st.selectbox,
                    "Subset",
                    "subset",
                    options=catalogue.subsets_of(view.dataset),
                    format_func=terms.subset_name,
                    help=terms.HELP["subset"],
                )
            else:
                state.bound(
                    st.selectbox,
                    "Labels",
                    "labels",
                    options=catalogue.sources.get(view.dataset, [db.ORIGINAL]),
                    format_func=lambda labels: catalogue.labels_name(view.dataset, labels),
                    help=terms.HELP["labels"],
                )
    with columns[len(shown)]:
        pick_snapshot(config)


@st.cache_resource(show_spinner=False)
def warming() -> threading.Thread:
    """Compiles what counts, once in the life of a server and beside it, so that no visitor waits for it."""
    thread = threading.Thread(target=bits.warm, name="warm", daemon=True)
    thread.start()
    return thread


def to_overview() -> None:
    """Nothing: the page of an address that leads to another one."""


def main() -> None:
    """Pick page and snapshot, bring the URL and the view into line, show the filter bar, run the page."""
    st.set_page_config(page_title="Second Look", page_icon=str(HERE / "icon.svg"), layout="wide")
    st.logo(str(HERE / "logo.svg"), size="large")
    st.html(STYLE)
    pages = {
        name: st.Page(
            f"views/{name}.py",
            title=title,
            icon=icon,
            url_path=name if name != "overview" else "",
            default=name == "overview",
        )
        for name, (title, icon, _) in PAGES.items()
    }
    # The page at `/` has no other address in Streamlit; who asks for `/overview` is led there.
    alias = st.Page(to_overview, url_path="overview", title="Overview", visibility="hidden")
    beyond = [one for name, one in pages.items() if name in BEYOND]
    others = [one for name, one in pages.items() if name not in BEYOND]
    page = st.navigation({"": [*others, alias], "Beyond labels": beyond}, position="top")
    if page == alias:
        st.switch_page(pages["overview"], query_params=dict(st.query_params))
    goto = st.session_state.pop("goto", None)
    if goto and pages[goto] != page:
        st.session_state["touched"] = True
        st.switch_page(pages[goto], query_params=state.to_query(state.current()))
    query, news = state.begin()
    if not news:
        query = state.to_query(state.current())
    try:
        config = configuration.load(Path(os.environ.get("BENCH_ROOT", ".")) / "params.yaml")
        source, name = pick(config, query.get("snap", ""))
    except BenchError as error:
        stop("The results cannot be shown", str(error), "bench --help")
    catalogue = db.catalogue(source)
    view, problems = state.parse(query, state.choices(catalogue))
    image = db.sample(source, view.sample) if view.sample else None
    dataset = str(image["dataset"]) if image else view.dataset  # an image brings its set along
    view, more = state.settle(state.replace(view, snap=name, dataset=dataset), catalogue)
    state.store(view)
    filter_bar(catalogue, next(used for one, (_, _, used) in PAGES.items() if pages[one] == page), config)
    for problem in [*problems, *more]:
        st.warning(problem, icon=":material/info:")
    st.session_state["source"] = source
    page.run()
    warming()  # last: the first page comes first


main()
