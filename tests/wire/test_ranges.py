"""SeqRanges against a plain set of numbers."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleet.wire.ranges import SeqRanges

NUMBERS = st.integers(0, 40)


class RangesAndASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ranges, self.model = SeqRanges(), set[int]()

    @rule(seq=NUMBERS)
    def add(self, seq: int) -> None:
        assert self.ranges.add(seq) == (seq not in self.model)
        self.model.add(seq)

    @rule(seq=NUMBERS)
    def discard(self, seq: int) -> None:
        self.ranges.discard(seq)
        self.model.discard(seq)

    @rule(most=st.integers(1, 6))
    def shrink(self, most: int) -> None:
        kept = list(self.ranges)[-most:]
        self.ranges.shrink(most)
        self.model = {seq for first, last in kept for seq in range(first, last + 1)}

    @rule()
    def rebuild(self) -> None:
        self.ranges = SeqRanges(list(self.ranges))

    @rule(first=NUMBERS, last=NUMBERS, most=st.integers(0, 10))
    def gaps(self, first: int, last: int, most: int) -> None:
        covered, missing = self.ranges.gaps(first, last, most)
        wanted = [seq for seq in range(first, last + 1) if seq not in self.model]
        assert missing == wanted[:most]
        assert covered == (last if len(wanted) <= most else wanted[most] - 1)

    @rule(others=st.sets(NUMBERS))
    def without(self, others: set[int]) -> None:
        ranges = SeqRanges()
        for seq in sorted(others):
            ranges.add(seq)
        left = self.ranges.without(ranges)
        assert {seq for seq in range(42) if seq in left} == self.model - others
        assert len(left) == len(self.model - others)

    @invariant()
    def holds_the_same_numbers(self) -> None:
        assert len(self.ranges) == len(self.model)
        assert {seq for seq in range(42) if seq in self.ranges} == self.model

    @invariant()
    def is_disjoint_ascending_and_never_touching(self) -> None:
        edges = [edge for pair in self.ranges for edge in pair]
        assert edges == sorted(edges)
        lasts, firsts = [last for _, last in self.ranges], [first for first, _ in self.ranges]
        assert all(last + 1 < first for last, first in zip(lasts, firsts[1:], strict=False))


TestRanges = RangesAndASet.TestCase


@given(st.integers(0, 2**31))
def test_the_gaps_of_an_immense_span_are_found_without_walking_it(last: int) -> None:
    covered, missing = SeqRanges([(0, last)]).gaps(0, last + 1, 32)
    assert (covered, missing) == (last + 1, [last + 1])
