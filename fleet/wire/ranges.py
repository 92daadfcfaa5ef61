"""Sets of sequence numbers as closed ranges: what has arrived of one boot of one node, in a few integers."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class SeqRanges:
    """A set of non-negative integers kept as disjoint closed ranges in ascending order."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """`ranges`: ascending and disjoint, as iteration gives them."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self._firsts.append(first)
            self._lasts.append(last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __len__(self) -> int:
        """How many numbers are in the set."""
        return sum(last - first + 1 for first, last in self)

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._firsts, seq) - 1
        return at >= 0 and seq <= self._lasts[at]

    def add(self, seq: int) -> bool:
        """Put `seq` in; whether it is new."""
        lasts = self._lasts
        if lasts and lasts[-1] == seq - 1:  # nearly always: the next one
            lasts[-1] = seq
            return True
        at = bisect_right(self._firsts, seq)
        if at and seq <= lasts[at - 1]:
            return False
        joins_left = at > 0 and lasts[at - 1] == seq - 1
        joins_right = at < len(lasts) and self._firsts[at] == seq + 1
        if joins_left and joins_right:
            lasts[at - 1] = lasts.pop(at)
            del self._firsts[at]
        elif joins_left:
            lasts[at - 1] = seq
        elif joins_right:
            self._firsts[at] = seq
        else:
            self._firsts.insert(at, seq)
            lasts.insert(at, seq)
        return True

    def discard(self, seq: int) -> None:
        """Take `seq` out, if it is in."""
        at = bisect_right(self._firsts, seq) - 1
        if at < 0 or seq > self._lasts[at]:
            return
        first, last = self._firsts[at], self._lasts[at]
        rest = [(a, b) for a, b in ((first, seq - 1), (seq + 1, last)) if a <= b]
        self._firsts[at : at + 1] = [a for a, _ in rest]
        self._lasts[at : at + 1] = [b for _, b in rest]

    def without(self, others: Iterable[tuple[int, int]]) -> "SeqRanges":
        """The numbers that are in none of `others`: ascending, disjoint ranges, as iteration gives them."""
        left: list[tuple[int, int]] = []
        away = iter(others)
        gone = next(away, None)
        for first, last in self:
            while gone is not None and gone[1] < first:
                gone = next(away, None)
            while gone is not None and gone[0] <= last:
                if first < gone[0]:
                    left.append((first, gone[0] - 1))
                first = gone[1] + 1
                if gone[1] > last:
                    break
                gone = next(away, None)
            if first <= last:
                left.append((first, last))
        return SeqRanges(left)

    def gaps(self, first: int, last: int, most: int) -> tuple[int, list[int]]:
        """The numbers from `first` to `last` that are not in the set, at most `most` of them, and the last number
        that the answer covers: `last`, or the one before the gap that did not fit."""
        missing: list[int] = []
        at = first
        while at <= last:
            index = bisect_right(self._firsts, at) - 1
            if index >= 0 and at <= self._lasts[index]:
                at = self._lasts[index] + 1
            elif len(missing) == most:
                return at - 1, missing
            else:
                missing.append(at)
                at += 1
        return last, missing

    def shrink(self, most_ranges: int) -> None:
        """Forget the lowest ranges until at most `most_ranges` are left."""
        if len(self._firsts) > most_ranges:
            del self._firsts[:-most_ranges]
            del self._lasts[:-most_ranges]
