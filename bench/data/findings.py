"""What the checks of a pair of datasets found, and the words in which it is told."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from bench import stats

WIDTH = 100
SHOWN = 5
"""Names that are listed, and examples that are given; all are counted."""

Detail = tuple[str, str]
"""A label, empty where it is that of the line before, and a text."""


@dataclass(frozen=True)
class Finding:
    """What one check found: a verdict, whether the sets differ or share images by it, and details."""

    check: str
    verdict: str
    differs: bool
    details: list[Detail]


@dataclass(frozen=True)
class Report:
    """All findings about a pair, in the order in which they are told."""

    title: str
    findings: list[Finding]

    @property
    def found(self) -> list[str]:
        """Names of the checks that found something."""
        return [finding.check for finding in self.findings if finding.differs]

    def text(self) -> str:
        """A verdict for each check, then their details; lines of at most WIDTH characters where words allow."""
        out = [self.title]
        out += [_filled(f"{finding.check}: {finding.verdict}", indent=2) for finding in self.findings]
        out.append(f"checks that found something: {', '.join(self.found) or 'none'}")
        for finding in self.findings:
            out += ["", finding.check]
            column = max(len(label) for label, _ in finding.details)
            out += [_filled(f"  {label:<{column}}  {text}", indent=column + 4) for label, text in finding.details]
        return "\n".join(out)


def _filled(text: str, indent: int) -> str:
    """Lines of at most WIDTH characters; what a terminal would take for a command becomes a question mark."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return textwrap.fill(
        text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False, tabsize=1
    )


def first(names: list[str]) -> str:
    """Up to SHOWN names and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def listed(words: list[str]) -> str:
    """All of them: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(n: int, one: str, many: str) -> str:
    """A number and what is counted, in the singular or the plural."""
    return f"{n:,} {one if n == 1 else many}"


def rate(k: int, n: int, confidence: float) -> str:
    """k of n with the share and Wilson's interval, in percent; n is above 0."""
    low, high = stats.wilson(k, n, confidence)
    return f"{k:,} of {n:,} ({percent(k / n)} [{100 * low:.1f}, {100 * high:.1f}])"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def signed(value: float, digits: int) -> str:
    """A number with its sign; zero has none."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
