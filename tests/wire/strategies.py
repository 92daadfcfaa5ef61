"""What hypothesis draws from: identities, counts, values, JSON of any shape, and bytes that are nearly messages."""

import json
from typing import Any

from hypothesis import strategies as st

from firmware.wire.messages import MAX_BOOT, MAX_MS, MAX_SEQ, MAX_TEXT_CHARS

IDS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
METRICS = st.from_regex(r"[a-z][a-z0-9_]{0,30}x", fullmatch=True)  # ends in x: never one of the reserved verbs
BOOTS = st.integers(0, MAX_BOOT)
SEQS = st.integers(0, MAX_SEQ)
SPANS_MS = st.integers(0, MAX_MS)
KEYS = st.binary(min_size=32, max_size=32)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=MAX_TEXT_CHARS)
SHORT_NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32)
VALUES = st.one_of(
    st.integers(-MAX_MS, MAX_MS),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.booleans(),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=MAX_TEXT_CHARS),
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def nearly(*names: str) -> st.SearchStrategy[bytes]:
    """JSON objects with these members, each absent or of any shape: what passes a parser and must fail a check."""
    members: dict[str, Any] = dict.fromkeys(names, ANY_JSON)
    return st.fixed_dictionaries({}, optional=members).map(lambda found: json.dumps(found).encode())


def garbage(*names: str) -> st.SearchStrategy[bytes]:
    """Bytes of every kind of wrong: noise, near misses, JSON that is no object, objects that are cut off."""
    near = nearly(*names)
    cut = st.tuples(near, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
    deep = st.sampled_from([b"[" * 100_000, b'{"a":' * 5_000, b"", b"\xff\xfe", b"NaN", b'{"value":1e999}'])
    return st.one_of(st.binary(max_size=200), near, cut, deep, ANY_JSON.map(lambda found: json.dumps(found).encode()))
