"""The compiled loops of bench/evaluate/protocol.py. Serial and without the GIL: protocol.py hands models to threads.

Images of a set come in the order in which ties are broken; `order` lists them by uncertainty, the most certain first.
A replicate weighs each image with how often it holds it. LANES replicates go together: weights (C, N, LANES) hold, of
each chunk of replicates, the weights of one image side by side, so that one pass over the images adds up all of them,
and notes the sums before every STEP-th image. What lies below a share of the original is then found from the nearest
note: of each replicate how many images, and how many right ones,

- same threshold: are no less certain than the first image of the original at which the share is reached (ties with it
  among them), in either set;
- same coverage: make up the share of each set by itself, ties cut where it is reached.

What lies between two shares that are edges is a bin. From those sums, and nothing else, all rules follow.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LANES = 32
STEP = 16
N_A, K_A, N_B, K_B, CUT_A, CUT_K_A, CUT_B, CUT_K_B = range(8)
"""Rows of the sums: same threshold (images and right ones of either set), same coverage (the same)."""
COVERAGE, EDGE, BOTH = range(3)
"""What a share is: one that rules keep, one where a bin ends, or both."""


@njit(nogil=True, cache=True)
def passes(
    order_a,
    end_a,
    until_b,
    order_b,
    right_a,
    right_b,
    weights_a,
    weights_b,
    shares,
    kind,
    out,
    data,
    sizes,
    start,
    stop,
):
    """Fill out (M, 3, rows, R) for the replicates of the chunks `start` to `stop`: accuracy on the original, on the
    other set, composition; and from replicate 0 data (M, 3, rows), the same in full precision, and sizes (M, 2, rows),
    the images that are kept of each set.

    order_a (U, N), end_a (U, N): place of the last image that is as certain, until_b (U, N): images of the other set
    that are no less certain; order_b (U, K); U is M, or 1 where all models share them. right_a (M, N), right_b (M, K):
    right ones in those orders. shares (G,) ascending, the last one 1; kind (G,): COVERAGE, EDGE (the last one is) or
    BOTH. Rows: as `protocol.Grid.layout` lists them. Where a rule keeps no image of a set, its row is NaN.

    A chunk is worked off for all models before the next one, so that its weights stay in the cache.
    """
    models, rows, replicates = len(out), out.shape[2], out.shape[3]
    sums = np.zeros((8, len(shares)), np.int64)
    one, size = np.empty((3, rows)), np.empty((2, rows), np.int64)
    notes_a = np.empty((2, order_a.shape[1] // STEP + 2, LANES), np.int32)
    notes_b = np.empty((2, order_b.shape[1] // STEP + 2, LANES), np.int32)
    found = np.empty((LANES, 3, rows), np.float32)
    for chunk in range(start, stop):
        weight_a, weight_b = weights_a[chunk], weights_b[chunk]
        lanes = min(LANES, replicates - chunk * LANES)
        for m in range(models):
            u = m if len(order_a) > 1 else 0
            _note(order_a[u], right_a[m], weight_a, notes_a)
            _note(order_b[u], right_b[m], weight_b, notes_b)
            for lane in range(lanes):
                _below(order_a[u], end_a[u], until_b[u], right_a[m], weight_a, notes_a, shares, lane, sums)
                _beside(order_b[u], right_b[m], weight_b, notes_b, shares, lane, sums)
                _rules(sums, kind, one, size)
                found[lane] = one
                if chunk + lane == 0:
                    data[m], sizes[m] = one, size
            for part in range(3):
                for row in range(rows):
                    for lane in range(lanes):
                        out[m, part, row, chunk * LANES + lane] = found[lane, part, row]


@njit(nogil=True, cache=True)
def _note(order, right, weights, notes):
    """notes (2, blocks + 1, LANES): images and right ones before every STEP-th one, the last ones of all."""
    n, k = np.zeros(LANES, np.int32), np.zeros(LANES, np.int32)
    block = np.zeros(2 * LANES, np.uint16)  # narrow sums, of a block, are what the processor adds most of at a time
    for first in range(0, len(order) + 1, STEP):
        for lane in range(LANES):
            notes[0, first // STEP, lane], notes[1, first // STEP, lane] = n[lane], k[lane]
        block[:] = 0
        for i in range(first, min(first + STEP, len(order))):
            image, counts = np.uint32(order[i]), np.uint16(right[i])
            for lane in range(LANES):
                w = np.uint16(weights[image, lane])
                block[lane] += w
                block[LANES + lane] += w * counts
        for lane in range(LANES):
            n[lane] += block[lane]
            k[lane] += block[LANES + lane]
    for lane in range(LANES):
        notes[0, -1, lane], notes[1, -1, lane] = n[lane], k[lane]


@njit(nogil=True, cache=True)
def _upto(stop, order, right, weights, notes, lane):
    """Images and right ones among the first `stop` ones of one replicate."""
    if stop == len(order):
        return np.int64(notes[0, -1, lane]), np.int64(notes[1, -1, lane])
    block = stop // STEP
    n, k = np.int64(notes[0, block, lane]), np.int64(notes[1, block, lane])
    for i in range(block * STEP, stop):
        w = np.int64(weights[order[i], lane])
        n += w
        k += w * right[i]
    return n, k


@njit(nogil=True, cache=True)
def _reach(wanted, block, order, right, weights, notes, lane):
    """The first image with which `wanted` images are reached, and images and right ones up to it; from `block` on."""
    while (block + 1) * STEP < len(order) and notes[0, block + 1, lane] < wanted:
        block += 1
    n, k = np.int64(notes[0, block, lane]), np.int64(notes[1, block, lane])
    i = block * STEP
    while True:
        w = np.int64(weights[order[i], lane])
        n += w
        k += w * right[i]
        if n >= wanted or i == len(order) - 1:
            return i, n, k, block
        i += 1


@njit(nogil=True, cache=True)
def _below(order, end, until_b, right, weights, notes, shares, lane, sums):
    """The sums of the original at each share; N_B gets how many images of the other set are below the threshold."""
    total, block = np.int64(notes[0, -1, lane]), 0
    for g in range(len(shares)):
        wanted = np.int64(np.ceil(shares[g] * total - 1e-9))
        i, n, k, block = _reach(wanted, block, order, right, weights, notes, lane)
        sums[CUT_A, g], sums[CUT_K_A, g] = wanted, k - (n - wanted) * right[i]
        if end[i] > i:
            n, k = _upto(end[i] + 1, order, right, weights, notes, lane)
        sums[N_A, g], sums[K_A, g], sums[N_B, g] = n, k, until_b[end[i]]


@njit(nogil=True, cache=True)
def _beside(order, right, weights, notes, shares, lane, sums):
    """The sums of the other set: up to the thresholds that `_below` found, and at each share of its own."""
    total, block = np.int64(notes[0, -1, lane]), 0
    last = len(shares) - 1
    for g in range(last + 1):
        stop = sums[N_B, g] if g < last else len(order)  # the last share is everything
        sums[N_B, g], sums[K_B, g] = _upto(stop, order, right, weights, notes, lane)
        wanted = np.int64(np.ceil(shares[g] * total - 1e-9))
        i, n, k, block = _reach(wanted, block, order, right, weights, notes, lane)
        sums[CUT_B, g], sums[CUT_K_B, g] = wanted, k - (n - wanted) * right[i]


@njit(nogil=True, cache=True)
def _rules(sums, kind, out, sizes):
    """Rows (3, rows) of one replicate from its sums: R0, R1, R2, R3 and R5 at each share that is a coverage."""
    grid = len(kind)
    last = grid - 1
    total_a, right_a = sums[N_A, last], sums[K_A, last]
    total_b, right_b = sums[N_B, last], sums[K_B, last]
    coverages = 0
    for g in range(last):
        coverages += kind[g] != EDGE
    r1, r2, r3, r5 = 1, 1 + coverages, 1 + 2 * coverages, 2 + 3 * coverages
    _put(out, sizes, 0, right_a, total_a, right_b, total_b, np.nan)
    # Of the bins below the last edge: images and right ones, what is expected of the other set at the accuracy of the
    # original, and of the bins that hold images of both: images and right ones of the original, and right ones at the
    # accuracy of the other set; and images of the other set.
    expected, matched, matched_a, matched_b, matched_n = 0.0, 0.0, 0.0, 0.0, np.int64(0)
    edge_n_a, edge_k_a, edge_n_b, edge_k_b = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    accuracy = np.nan
    c = 0
    for g in range(grid):
        n_a, k_a = sums[N_A, g] - edge_n_a, sums[K_A, g] - edge_k_a
        n_b, k_b = sums[N_B, g] - edge_n_b, sums[K_B, g] - edge_k_b
        here = k_a / n_a if n_a > 0 else accuracy  # a bin without an image of the original joins the one below it
        hoped = expected + (n_b * here if n_b > 0 else 0.0)
        common, common_a, common_b, common_n = matched, matched_a, matched_b, matched_n
        if n_a > 0 and n_b > 0:
            common += n_a
            common_a += k_a
            common_b += n_a * (k_b / n_b)
            common_n += n_b
        if kind[g] != EDGE:
            kept_a, kept_b = sums[N_A, g], sums[N_B, g]
            _put(out, sizes, r1 + c, sums[K_A, g], kept_a, sums[K_B, g], kept_b, hoped)
            hope = _expected_of_cut(sums, kind, g)
            _put(out, sizes, r2 + c, sums[CUT_K_A, g], sums[CUT_A, g], sums[CUT_K_B, g], sums[CUT_B, g], hope)
            _match(out, sizes, r3 + c, common, common_a, common_b, common_n)
            sure = sums[K_A, g] / kept_a if kept_a > 0 else np.nan
            rest = (right_a - sums[K_A, g]) / (total_a - kept_a) if total_a > kept_a else sure
            hope = kept_b * sure + (total_b - kept_b) * rest
            _put(out, sizes, r5 + c, right_a, total_a, right_b, total_b, hope)
            c += 1
        if kind[g] != COVERAGE:
            expected, matched, matched_a, matched_b, matched_n = hoped, common, common_a, common_b, common_n
            accuracy = here
            edge_n_a, edge_k_a = sums[N_A, g], sums[K_A, g]
            edge_n_b, edge_k_b = sums[N_B, g], sums[K_B, g]
    _match(out, sizes, r3 + coverages, matched, matched_a, matched_b, matched_n)
    _put(out, sizes, r5 + coverages, right_a, total_a, right_b, total_b, expected)


@njit(nogil=True, cache=True)
def _put(out, sizes, row, k_a, n_a, k_b, n_b, expected):
    """One row; `expected`: right ones of the other set at the accuracy of the original, NaN where there are no bins."""
    sizes[0, row], sizes[1, row] = n_a, n_b
    if n_a == 0 or n_b == 0:
        out[:, row] = np.nan
        return
    out[0, row], out[1, row] = k_a / n_a, k_b / n_b
    out[2, row] = 0.0 if np.isnan(expected) else k_a / n_a - expected / n_b


@njit(nogil=True, cache=True)
def _match(out, sizes, row, n_a, k_a, k_b, n_b):
    """One row of R3: the bins that hold images of both sets, weighted as in the original."""
    sizes[0, row], sizes[1, row] = np.int64(n_a), n_b
    if n_a == 0:
        out[:, row] = np.nan
        return
    out[0, row], out[1, row], out[2, row] = k_a / n_a, k_b / n_a, 0.0


@njit(nogil=True, cache=True)
def _expected_of_cut(sums, kind, g):
    """Right ones among the images of the other set that the same coverage keeps, at the accuracy of the original.

    Bins are those of the original up to its own cut; images of the other set beyond it belong to the last one.
    """
    cut_a, right_a, left = sums[CUT_A, g], sums[CUT_K_A, g], sums[CUT_B, g]
    n_a, k_a, n_b = np.int64(0), np.int64(0), np.int64(0)
    total, accuracy = 0.0, np.nan
    for e in range(g):
        if kind[e] == COVERAGE:
            continue
        if sums[N_A, e] >= cut_a:
            break
        images = min(sums[N_B, e], left) - n_b
        if sums[N_A, e] > n_a:
            accuracy = (sums[K_A, e] - k_a) / (sums[N_A, e] - n_a)
        if images > 0:
            total += images * accuracy
        n_a, k_a, n_b = sums[N_A, e], sums[K_A, e], n_b + images
    if cut_a > n_a:
        accuracy = (right_a - k_a) / (cut_a - n_a)
    return total + ((left - n_b) * accuracy if left > n_b else 0.0)


@njit(nogil=True, cache=True)
def once(order_a, order_b, unsure_a, unsure_b, right_a, right_b, shares, kind, data, sizes):
    """`passes` of one model for the data alone: data (3, rows), sizes (2, rows).

    order_a (N,), order_b (K,); unsure_a, right_a (N,) and unsure_b, right_b (K,) in the order that breaks ties.
    """
    sums = np.zeros((8, len(shares)), np.int64)
    below_a, below_b = _running(order_a, right_a), _running(order_b, right_b)
    for g in range(len(shares)):
        wanted_a = np.int64(np.ceil(shares[g] * len(order_a) - 1e-9))
        wanted_b = np.int64(np.ceil(shares[g] * len(order_b) - 1e-9))
        tau = unsure_a[order_a[wanted_a - 1]]
        n_a = _no_less_certain(order_a, unsure_a, tau)
        n_b = _no_less_certain(order_b, unsure_b, tau) if g < len(shares) - 1 else len(order_b)
        sums[N_A, g], sums[K_A, g], sums[N_B, g], sums[K_B, g] = n_a, below_a[n_a], n_b, below_b[n_b]
        sums[CUT_A, g], sums[CUT_K_A, g] = wanted_a, below_a[wanted_a]
        sums[CUT_B, g], sums[CUT_K_B, g] = wanted_b, below_b[wanted_b]
    _rules(sums, kind, data, sizes)


@njit(nogil=True, cache=True)
def _running(order, right):
    """Right ones among the first i images, (N + 1,)."""
    out = np.zeros(len(order) + 1, np.int64)
    for i in range(len(order)):
        out[i + 1] = out[i] + right[order[i]]
    return out


@njit(nogil=True, cache=True)
def _no_less_certain(order, unsure, tau):
    """Images whose uncertainty is at most tau."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if unsure[order[middle]] <= tau:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, cache=True)
def entered(entry_a, entry_b, right_a, right_b, weights_a, weights_b, out, data, sizes, start, stop):
    """R4: as `passes`, of subsets of images that entered by step 0, 1, ..., rows - 1; composition is 0.

    entry_a (M, N), entry_b (M, K): the first step at which an image is in the subset of a model, `rows` for never.
    """
    models, rows, replicates = len(out), out.shape[2], out.shape[3]
    sums_a, sums_b = np.empty((2, rows + 1, LANES), np.int32), np.empty((2, rows + 1, LANES), np.int32)
    one, size = np.empty((3, rows)), np.empty((2, rows), np.int64)
    for chunk in range(start, stop):
        for m in range(models):
            _enter(entry_a[m], right_a[m], weights_a[chunk], sums_a)
            _enter(entry_b[m], right_b[m], weights_b[chunk], sums_b)
            for lane in range(min(LANES, replicates - chunk * LANES)):
                r = chunk * LANES + lane
                n_a, k_a, n_b, k_b = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
                for row in range(rows):
                    n_a += sums_a[0, row, lane]
                    k_a += sums_a[1, row, lane]
                    n_b += sums_b[0, row, lane]
                    k_b += sums_b[1, row, lane]
                    _put(one, size, row, k_a, n_a, k_b, n_b, np.nan)
                out[m, :, :, r] = one
                if r == 0:
                    data[m], sizes[m] = one, size


@njit(nogil=True, cache=True)
def _enter(entry, right, weights, sums):
    """sums (2, rows + 1, LANES): images and right ones by the step at which they enter."""
    sums[:] = 0
    for i in range(len(entry)):
        step, counts = np.uint32(entry[i]), np.int32(right[i])
        for lane in range(LANES):
            w = np.int32(weights[i, lane])
            sums[0, step, lane] += w
            sums[1, step, lane] += w * counts


@njit(nogil=True, cache=True)
def votes(pred, classes, first, count, second):
    """The most frequent answer to each image (N,), how often it is given, and how often the next one; pred (P, N).

    Of answers that are equally frequent, the one that reached that number first; `classes`: class ids are below it.
    """
    tally = np.zeros(classes, np.int32)
    for i in range(pred.shape[1]):
        best, most = np.int32(-1), 0
        for m in range(len(pred)):
            c = pred[m, i]
            tally[c] += 1
            if tally[c] > most:
                best, most = c, tally[c]
        following = 0
        for m in range(len(pred)):
            c = pred[m, i]
            if c != best and tally[c] > following:
                following = tally[c]
        for m in range(len(pred)):
            tally[pred[m, i]] = 0
        first[i], count[i], second[i] = best, most, following
