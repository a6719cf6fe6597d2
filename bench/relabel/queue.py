"""What an annotator is shown next: pure functions of table `queue`, of who annotated what, and of what others look at.

| order | first comes |
|---|---|
| quality | the lowest quality of the original label (cleanlab) |
| disagreement | the image about which the members of the ensemble disagree most |
| uncertainty | the highest entropy of their mean |
| labels | the most proposed labels that are likely |
| random | the first of a random order: rates among the first n are those of a simple random sample |

Ties are in the random order. Everyone has the same order, and leaves out what is their own or has enough annotators;
what others have before them counts as theirs for a while, so that many at once do not all take the same image. Images
that lack just one annotator are not preferred: then a random order stays one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bench.frames import Frame

BY = {
    "quality": ("quality", True),
    "disagreement": ("disagreement", False),
    "uncertainty": ("entropy_nats", False),
    "labels": ("n_likely", False),
    "random": ("place", True),
}
"""Order -> the column of table `queue`, and whether the least comes first."""


@dataclass(frozen=True)
class Progress:
    """`mine`: images that the annotator did; `complete` of `total` have enough annotators; `left` for this one."""

    mine: int
    complete: int
    total: int
    left: int


def ordered(queue: Frame, order: str) -> list[str]:
    """Image ids in one of the orders of BY."""
    column, rising = BY[order]
    return queue.sort_values([column, "place", "sample_id"], ascending=[rising, True, True])["sample_id"].tolist()


def upcoming(
    ids: Sequence[str],
    who: str,
    done: Mapping[str, Collection[str]],
    claimed: Mapping[str, Collection[str]],
    overlap: int,
    n: int,
    again: Collection[str] = (),
) -> list[str]:
    """The next `n` images for annotator `who`, of `ids` in their order.

    done: image -> the people who annotated it; claimed: image -> those who have it before them; again: images that more
    people than `overlap` may annotate.
    """
    out = []
    for sample_id in ids:
        people = set(done.get(sample_id, ()))
        others = (people | set(claimed.get(sample_id, ()))) - {who}
        if who in people or (len(others) >= overlap and sample_id not in again):
            continue
        out.append(sample_id)
        if len(out) == n:
            break
    return out


def progress(
    ids: Sequence[str], who: str, done: Mapping[str, Collection[str]], overlap: int, again: Collection[str] = ()
) -> Progress:
    """How far the images `ids` are; done and again: as for `upcoming`. Those that come again are not complete."""
    mine = sum(who in done.get(sample_id, ()) for sample_id in ids)
    full = {one for one in ids if len(done.get(one, ())) >= overlap and one not in again}
    complete, left = len(full), sum(one not in full and who not in done.get(one, ()) for one in ids)
    return Progress(mine, complete, len(ids), left)
