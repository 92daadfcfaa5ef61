"""What is written as TOML is read back as it was."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawsim.live.toml import dumps

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXT)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
TABLES = st.dictionaries(TEXT, VALUES, max_size=4)


@given(TABLES, st.lists(TABLES, min_size=1, max_size=3))
def test_tables_come_back_as_they_were(table: dict[str, object], tables: list[dict[str, object]]) -> None:
    assert tomllib.loads(dumps({"node": table, "sensors": tables})) == {"node": table, "sensors": tables}


def test_what_is_none_is_left_out() -> None:
    assert tomllib.loads(dumps({"node": {"id": "sensor-01", "every_ms": None}})) == {"node": {"id": "sensor-01"}}


def test_what_toml_cannot_say_is_an_error() -> None:
    with pytest.raises(TypeError, match="TOML has no bytes"):
        dumps({"node": {"key": b"secret"}})
