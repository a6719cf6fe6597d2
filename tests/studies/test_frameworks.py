"""The registry of self-supervised frameworks: what is in it is of one form, and what runs here is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bench.config import SSL_FAMILY
from bench.errors import BenchError
from bench.models import ssl
from bench.studies import frameworks

KNOWN = frameworks.load()


def test_there_are_many_and_none_is_there_twice() -> None:
    names = [one.name.casefold() for one in KNOWN.frameworks]
    references = [one.reference for one in KNOWN.frameworks]
    assert len(names) >= 100
    assert len(set(names)) == len(names)
    assert len(set(references)) == len(references)
    assert len({one.title.casefold() for one in KNOWN.frameworks}) == len(names)


def test_a_year_is_that_of_the_arxiv_id() -> None:
    for one in KNOWN.frameworks:
        if one.reference.startswith("arXiv:"):
            assert 2000 + int(one.reference[6:8]) == one.year, one.name
            assert 1 <= int(one.reference[8:10]) <= 12, one.name
    cited = {reference for practice in KNOWN.practices for reference in practice.references}
    assert all(re.fullmatch(r"arXiv:\d{4}\.\d{5}", reference) for reference in cited)


def test_what_runs_here_is_in_it_with_the_family_and_the_reference_of_its_code() -> None:
    here = {one.here: one for one in KNOWN.frameworks if one.here}
    assert set(here) == set(SSL_FAMILY) == set(ssl.OBJECTIVES)
    for method, one in here.items():
        assert one.family == SSL_FAMILY[method], method
        assert one.reference.removeprefix("arXiv:") in (ssl.OBJECTIVES[method].__doc__ or ""), method


def test_links_lead_to_the_reference() -> None:
    by_name = {one.name: one for one in KNOWN.frameworks}
    assert by_name["SimCLR"].url == "https://arxiv.org/abs/2002.05709"
    assert by_name["FastSiam"].url == "https://doi.org/10.1007/978-3-031-16788-1_4"


@pytest.mark.parametrize(
    "change",
    [{"reference": "2002.05709"}, {"reference": ""}, {"year": 20}, {"family": "magic"}, {"loss": ""}, {"stars": 5}],
)
def test_a_row_of_another_form_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    whole = yaml.safe_load(frameworks.PATH.read_text())
    whole["frameworks"] = [{**whole["frameworks"][0], **change}]
    path = tmp_path / "frameworks.yaml"
    path.write_text(yaml.safe_dump(whole))
    with pytest.raises(BenchError, match="is no registry of frameworks"):
        frameworks.load(path)
