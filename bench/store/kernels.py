"""The counting loops of bench/store/bits.py, compiled. Serial and without the GIL: bits.py hands out ranges of work.

Rows are packed correctness (M, W) as 64-bit words, masks (W,) or, several at once, (T, W); bits past the last image are
zero in every mask. `start` and `stop` bound the models (or words) that a call is for, and `out` is filled for these
alone, so that calls with disjoint ranges may run at once. Numba's own parallel loops are not used: their default thread
pool ends the process when two threads (two browsers of a dashboard) enter it together.

The inner loops run over slices of one row, `rows[m, first:last]`, which numba knows to be contiguous (slices of a block
of rows it does not): only then does LLVM count the bits of eight words with one instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 512
"""Words of a row that are worked on at a time: 4 KiB, so that a block of 50 masks stays in the second-level cache."""
TILE = 48
"""Rows that are held against one another at a time, for the same reason."""
DIGITS = 16
"""Binary digits of the largest number of models."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; keep the machine code on disk where that can be written, else in this process."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder to write to: neither beside this file nor in the user's cache
        return njit(nogil=True, error_model="numpy")(function)


@intrinsic
def _ones(typing: Any, word: Any = None) -> Any:
    """Number of bits set in a 64-bit word."""

    def instruction(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), instruction


@njit(inline="always")
def _common(a, b):
    """Bits set in both of two slices."""
    total = np.uint64(0)
    for w in range(len(a)):
        total += _ones(a[w] & b[w])
    return total


@njit(inline="always")
def _common_of_four(a, b, c, d, mask):
    """Bits set in each of four slices and in the mask, which is so read once."""
    in_a, in_b, in_c, in_d = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    for w in range(len(mask)):
        chosen = mask[w]
        in_a += _ones(a[w] & chosen)
        in_b += _ones(b[w] & chosen)
        in_c += _ones(c[w] & chosen)
        in_d += _ones(d[w] & chosen)
    return in_a, in_b, in_c, in_d


@_compiled
def right_counts(rows, mask, out, start, stop):
    """out[m] = bits of rows[m] under `mask`."""
    for m in range(start, stop):
        out[m] = _common(rows[m], mask)


@_compiled
def counts_under(rows, masks, out, start, stop):
    """out[m, t] += bits of rows[m] under masks[t]."""
    for first in range(0, rows.shape[1], BLOCK):
        last = min(first + BLOCK, rows.shape[1])
        four = start + (stop - start) // 4 * 4
        for m in range(start, four, 4):
            a, b = rows[m, first:last], rows[m + 1, first:last]
            c, d = rows[m + 2, first:last], rows[m + 3, first:last]
            for t in range(len(masks)):
                in_a, in_b, in_c, in_d = _common_of_four(a, b, c, d, masks[t, first:last])
                out[m, t] += in_a
                out[m + 1, t] += in_b
                out[m + 2, t] += in_c
                out[m + 3, t] += in_d
        for m in range(four, stop):
            a = rows[m, first:last]
            for t in range(len(masks)):
                out[m, t] += _common(a, masks[t, first:last])


@_compiled
def both_right(rows, mask, out, start, stop):
    """out[a, b] += images under `mask` that models a and b >= a both get right.

    For a from `start` to `stop` and as many from the other end: a row and its counterpart make M + 1 pairs together,
    whatever the row, so that equal ranges are equal work. All pairs are `stop` = (M + 1) // 2.
    """
    models = len(rows)
    chosen = np.empty(BLOCK, np.uint64)
    for first in range(0, rows.shape[1], BLOCK):
        last = min(first + BLOCK, rows.shape[1])
        mine = chosen[: last - first]
        for tile in range(0, models, TILE):
            end = min(tile + TILE, models)
            for i in range(2 * start, 2 * stop):
                a = i // 2 if i % 2 == 0 else models - 1 - i // 2
                if a >= end or (i % 2 == 1 and a == i // 2):
                    continue
                for w in range(len(mine)):
                    mine[w] = rows[a, first + w] & mask[first + w]
                b = max(a, tile)
                four = b + (end - b) // 4 * 4
                for m in range(b, four, 4):
                    p, q = rows[m, first:last], rows[m + 1, first:last]
                    r, s = rows[m + 2, first:last], rows[m + 3, first:last]
                    in_p, in_q, in_r, in_s = _common_of_four(p, q, r, s, mine)
                    out[a, m] += in_p
                    out[a, m + 1] += in_q
                    out[a, m + 2] += in_r
                    out[a, m + 3] += in_s
                for m in range(four, end):
                    out[a, m] += _common(rows[m, first:last], mine)


@_compiled
def models_right(rows, out, start, stop):
    """out[i] = rows that have bit i, for the images of the words `start` to `stop`; `out` is as long as all words.

    Numbers are held as binary digits, a word of each digit for 64 images. Adding a row is a carry through the digits;
    eight rows are first added to one another (carry-save adders): a few operations a word instead of 64.
    """
    digits = np.zeros((DIGITS, BLOCK), np.uint64)
    carry = np.zeros(BLOCK, np.uint64)
    eight = len(rows) // 8 * 8
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        digits[:] = 0
        for m in range(0, eight, 8):
            _add_eight(rows, m, first, last, digits, carry)
            _ripple(digits, 3, carry[: last - first])
        for m in range(eight, len(rows)):
            carry[: last - first] = rows[m, first:last]
            _ripple(digits, 0, carry[: last - first])
        _unfold(digits, len(rows), out[64 * first : 64 * last])


@_compiled
def _add_eight(rows, m, first, last, digits, eights):
    """Add the words of the rows m to m + 7 to the last three digits; `eights` gets what is carried to the fourth."""
    r0, r1, r2, r3 = rows[m, first:last], rows[m + 1, first:last], rows[m + 2, first:last], rows[m + 3, first:last]
    r4, r5, r6, r7 = rows[m + 4, first:last], rows[m + 5, first:last], rows[m + 6, first:last], rows[m + 7, first:last]
    ones, twos, fours = digits[0], digits[1], digits[2]
    for w in range(len(r0)):
        half = r0[w] ^ r1[w]
        one_a, two_a = half ^ r2[w], (r0[w] & r1[w]) | (half & r2[w])
        half = r3[w] ^ r4[w]
        one_b, two_b = half ^ r5[w], (r3[w] & r4[w]) | (half & r5[w])
        half = r6[w] ^ r7[w]
        one_c, two_c = half ^ ones[w], (r6[w] & r7[w]) | (half & ones[w])
        half = one_a ^ one_b
        ones[w], two_d = half ^ one_c, (one_a & one_b) | (half & one_c)
        half = two_a ^ two_b
        two_e, four_a = half ^ two_c, (two_a & two_b) | (half & two_c)
        half, old = two_d ^ two_e, twos[w]
        twos[w], four_b = half ^ old, (two_d & two_e) | (half & old)
        half, old = four_a ^ four_b, fours[w]
        fours[w], eights[w] = half ^ old, (four_a & four_b) | (half & old)


@_compiled
def _ripple(digits, place, carry):
    """Add to the digit `place` and carry on until nothing is left to carry."""
    for p in range(place, DIGITS):
        digit = digits[p]
        left = np.uint64(0)
        for w in range(len(carry)):
            old = digit[w]
            digit[w] = old ^ carry[w]
            carry[w] &= old
            left |= carry[w]
        if left == 0:
            return


@_compiled
def _unfold(digits, largest, out):
    """The numbers (64 * w,) that the digits hold, none above `largest`."""
    used = 1
    while largest >> used:
        used += 1
    for w in range(len(out) // 64):
        numbers = out[64 * w : 64 * w + 64]
        numbers[:] = 0
        for p in range(used):
            word = digits[p, w]
            for k in range(64):
                bit = (word >> np.uint64((k & 56) + 7 - (k & 7))) & np.uint64(1)
                numbers[k] |= np.uint16(bit << np.uint64(p))


@_compiled
def spread(images, codes, place, masks):
    """Set the bit of each image i of `images` in masks[place[codes[i]]]; masks (T, B) are bytes, zero before.

    An image whose place is T is under none of them.
    """
    for i in images:
        t = place[codes[i]]
        if t < len(masks):
            masks[t, i >> 3] |= np.uint8(0x80 >> (i & 7))


@_compiled
def counts_by_place(rows, images, codes, place, bytes_of, out, start, stop):
    """out[m, t, r] = those of `images` with place[codes[m, i]] == t that model m gets wrong (r = 0) or right (r = 1).

    Rows are (M, B) bytes here; bytes_of[b] are the eight bits of a byte b as bytes. Images add to four tallies in turn:
    an addition need not wait for the one before it, which as often as not is to the same number.
    """
    places = out.shape[1]
    tally = np.zeros((4, 2 * places), np.uint32)
    first, second, third, fourth = tally[0], tally[1], tally[2], tally[3]
    right = np.empty(8 * rows.shape[1], np.uint8)
    words = right.view(np.uint64)
    four, one = len(images) // 4 * 4, np.uint32(1)
    for m in range(start, stop):
        row, code = rows[m], codes[m]
        for b in range(len(row)):
            words[b] = bytes_of[row[b]]
        tally[:] = 0
        for j in range(0, four, 4):
            i = images[j]
            first[2 * np.uint32(place[code[i]]) + right[i]] += one
            i = images[j + 1]
            second[2 * np.uint32(place[code[i]]) + right[i]] += one
            i = images[j + 2]
            third[2 * np.uint32(place[code[i]]) + right[i]] += one
            i = images[j + 3]
            fourth[2 * np.uint32(place[code[i]]) + right[i]] += one
        for j in range(four, len(images)):
            i = images[j]
            first[2 * np.uint32(place[code[i]]) + right[i]] += one
        for t in range(places):
            for r in range(2):
                at = 2 * t + r
                out[m, t, r] = np.int64(first[at]) + second[at] + third[at] + fourth[at]
