"""The counting loops of bench/store/bits.py, compiled. Serial and without the GIL: bits.py hands out ranges of models.

Rows are packed correctness (M, W) as 64-bit words, a mask is (W,) or, several at once, (T, W); bits past the last image
are zero in every mask. `start` and `stop` bound the models that a call is for, and `out` is filled for these alone, so
that calls with disjoint ranges may run at once. Numba's own parallel loops are not used: their default thread pool ends
the process when two threads (two browsers of a dashboard) enter it together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 512
"""Words of a row that are worked on at a time: 4 KiB, so that a block of 50 masks stays in the second-level cache."""
TILE = 64
"""Rows that are held against one another at a time."""
PLANES = 16
"""Binary digits of the largest number of models."""
EMPTY, SPARSE = np.uint64(0), 4


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; keep the machine code on disk where that can be written, else in this process."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder to write to: neither beside this file nor in the user's cache
        return njit(nogil=True, error_model="numpy")(function)


@intrinsic
def _ones(typing: Any, word: Any = None) -> Any:
    """Number of bits set in a 64-bit word: one instruction, which LLVM makes eight at a time of."""

    def instruction(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), instruction


@_compiled
def right_counts(rows, mask, out, start, stop):
    """out[m] = bits of rows[m] under `mask`."""
    for m in range(start, stop):
        total = np.uint64(0)
        for w in range(rows.shape[1]):
            total += _ones(rows[m, w] & mask[w])
        out[m] = total


@_compiled
def counts_under(rows, masks, out, start, stop):
    """out[m, t] = bits of rows[m] under masks[t]. Four models at a time: a block of a mask is read once for all."""
    words, kinds = masks.shape[1], masks.shape[0]
    out[start:stop] = 0
    for first in range(0, words, BLOCK):
        last = min(first + BLOCK, words)
        m = start
        while m + 4 <= stop:
            for t in range(kinds):
                a, b, c, d = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
                for w in range(first, last):
                    chosen = masks[t, w]
                    a += _ones(rows[m, w] & chosen)
                    b += _ones(rows[m + 1, w] & chosen)
                    c += _ones(rows[m + 2, w] & chosen)
                    d += _ones(rows[m + 3, w] & chosen)
                out[m, t] += a
                out[m + 1, t] += b
                out[m + 2, t] += c
                out[m + 3, t] += d
            m += 4
        while m < stop:
            for t in range(kinds):
                a = np.uint64(0)
                for w in range(first, last):
                    a += _ones(rows[m, w] & masks[t, w])
                out[m, t] += a
            m += 1


@_compiled
def spread(mask, codes, place, masks):
    """Set in masks[place[codes[i]]] the bit of every image i under `mask`; (T, B) bytes of zeros, place 65,536 long.

    An image whose place is T is under none of them.
    """
    kinds = masks.shape[0]
    for i in range(len(codes)):
        bit = np.uint8(0x80 >> (i & 7))
        if mask[i >> 3] & bit:
            t = place[codes[i]]
            if t < kinds:
                masks[t, i >> 3] |= bit


@_compiled
def counts_by_place(rows, mask, codes, place, out, start, stop):
    """out[m, t, r] = images under `mask` of place[codes[m, i]] == t that model m gets wrong (r = 0) or right (r = 1).

    Rows and mask are (..., B) bytes here. Neighbouring images add to four histograms in turn: an addition need not wait
    for the one before it, which as often as not is to the same number.
    """
    kinds = out.shape[1]
    n = codes.shape[1]
    whole = n // 8
    tally = np.zeros((4, 4 * kinds), np.uint32)
    for m in range(start, stop):
        tally[:] = 0
        for b in range(whole):
            chosen = np.uint32(mask[b])
            if chosen == 0:
                continue
            right = np.uint32(rows[m, b])
            for k in range(8):
                at = np.uint32(place[codes[m, 8 * b + k]]) << np.uint32(2)
                at |= ((chosen >> np.uint32(7 - k)) & np.uint32(1)) << np.uint32(1)
                at |= (right >> np.uint32(7 - k)) & np.uint32(1)
                tally[k & 3, at] += np.uint32(1)
        for i in range(8 * whole, n):
            chosen, right = np.uint32(mask[i >> 3]), np.uint32(rows[m, i >> 3])
            shift = np.uint32(7 - (i & 7))
            at = (np.uint32(place[codes[m, i]]) << np.uint32(2)) | (((chosen >> shift) & np.uint32(1)) << np.uint32(1))
            tally[0, at | ((right >> shift) & np.uint32(1))] += np.uint32(1)
        for t in range(kinds):
            for r in range(2):
                at = 4 * t + 2 + r
                out[m, t, r] = np.int64(tally[0, at]) + tally[1, at] + tally[2, at] + tally[3, at]


@_compiled
def models_right(rows, out, start, stop):
    """out[i] = rows that have bit i, for the images of the words `start` to `stop`; `out` is as long as all words.

    Numbers are held as binary digits, one word of each digit for 64 images: adding a row is a carry through the digits,
    and eight rows are first added to one another (carry-save adders), which takes a few operations a word, not 64.
    """
    planes = np.zeros((PLANES, BLOCK), np.uint64)
    for first in range(start, stop, BLOCK):
        size = min(BLOCK, stop - first)
        planes[:] = 0
        m = 0
        while m + 8 <= rows.shape[0]:
            _add_eight(rows, m, first, size, planes)
            m += 8
        while m < rows.shape[0]:
            for w in range(size):
                carry = rows[m, first + w]
                for p in range(PLANES):
                    planes[p, w], carry = planes[p, w] ^ carry, planes[p, w] & carry
            m += 1
        _unfold(planes, size, rows.shape[0], out[64 * first : 64 * (first + size)])


@_compiled
def _add_eight(rows, m, first, size, planes):
    """Add rows m to m + 7 to the numbers that `planes` holds."""
    for w in range(size):
        at = first + w
        a, b, c = rows[m, at], rows[m + 1, at], rows[m + 2, at]
        s = a ^ b
        one1, two1 = s ^ c, (a & b) | (s & c)
        a, b, c = rows[m + 3, at], rows[m + 4, at], rows[m + 5, at]
        s = a ^ b
        one2, two2 = s ^ c, (a & b) | (s & c)
        a, b, c = rows[m + 6, at], rows[m + 7, at], planes[0, w]
        s = a ^ b
        one3, two3 = s ^ c, (a & b) | (s & c)
        s = one1 ^ one2
        planes[0, w], two4 = s ^ one3, (one1 & one2) | (s & one3)
        s = two1 ^ two2
        two5, four1 = s ^ two3, (two1 & two2) | (s & two3)
        c = planes[1, w]
        s = two4 ^ two5
        planes[1, w], four2 = s ^ c, (two4 & two5) | (s & c)
        c = planes[2, w]
        s = four1 ^ four2
        planes[2, w], carry = s ^ c, (four1 & four2) | (s & c)
        for p in range(3, PLANES):
            planes[p, w], carry = planes[p, w] ^ carry, planes[p, w] & carry


@_compiled
def _unfold(planes, size, largest, out):
    """The numbers (64 * size,) that `planes` holds, none above `largest`."""
    digits = 1
    while largest >> digits:
        digits += 1
    for w in range(size):
        for byte in range(8):
            for k in range(8):
                shift = np.uint64(8 * byte + 7 - k)
                number = np.uint64(0)
                for p in range(digits):
                    number |= ((planes[p, w] >> shift) & np.uint64(1)) << np.uint64(p)
                out[64 * w + 8 * byte + k] = number


@_compiled
def both_right(rows, mask, out, start, stop):
    """out[a, b] and out[b, a] = images under `mask` that models a and b both get right, b >= a."""
    models, words = rows.shape
    chosen = np.empty(BLOCK, np.uint64)
    for a in range(start, stop):
        out[a, a:] = 0
    for first in range(0, words, BLOCK):
        size = min(BLOCK, words - first)
        for tile in range(start, models, TILE):
            for a in range(start, min(stop, tile + TILE)):
                for w in range(size):
                    chosen[w] = rows[a, first + w] & mask[first + w]
                for b in range(max(a, tile), min(tile + TILE, models)):
                    total = np.uint64(0)
                    for w in range(size):
                        total += _ones(chosen[w] & rows[b, first + w])
                    out[a, b] += total
    for a in range(start, stop):
        for b in range(a + 1, models):
            out[b, a] = out[a, b]
