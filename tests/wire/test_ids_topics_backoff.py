"""Names, topics and the delays between attempts to connect."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.wire.backoff import FIRST_MS, MOST_MS, Backoff
from firmware.wire.ids import VERBS, valid_id, valid_metric
from firmware.wire.topics import MAX_TOPIC_CHARS, split, topic
from tests.wire.strategies import IDS, METRICS

ALMOST_IDS = st.text("abz019-_AZ. /é\n", max_size=34)


@given(ALMOST_IDS | IDS)
def test_ids_are_those_of_the_grammar(text: str) -> None:
    assert valid_id(text) == bool(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", text))


@given(ALMOST_IDS | METRICS | st.sampled_from(VERBS))
def test_metrics_are_those_of_the_grammar_but_for_the_verbs(text: str) -> None:
    assert valid_metric(text) == (bool(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", text)) and text not in VERBS)


@pytest.mark.parametrize("thing", [None, 3, b"sensor-01", ["a"], {}])
def test_what_is_no_text_is_no_name(thing: object) -> None:
    assert not valid_id(thing) and not valid_metric(thing)


@given(IDS, METRICS | st.just("batch/ack"))
def test_a_topic_splits_into_what_it_was_made_of(who: str, verb: str) -> None:
    assert split(topic(who, verb)) == (who, verb)


@given(st.text(max_size=MAX_TOPIC_CHARS + 5))
def test_a_foreign_topic_is_none_of_ours(name: str) -> None:
    found = split(name)
    assert found is None or "clawland/" + "/".join(found) == name


@pytest.mark.parametrize(
    "name",
    [
        "clawland",
        "clawland/",
        "clawland/a",
        "clawland//temp",
        "clawland/a/",
        "other/a/temp",
        "clawland/a/" + "x" * MAX_TOPIC_CHARS,
    ],
)
def test_a_topic_without_sender_or_verb_or_of_endless_length_is_refused(name: str) -> None:
    assert split(name) is None


@given(st.integers())
def test_delays_double_to_half_a_minute_and_start_over_after_success(seed: int) -> None:
    backoff = Backoff(random.Random(seed))
    delay_ms = FIRST_MS
    for _ in range(8):
        assert delay_ms // 2 <= backoff.next_ms() <= delay_ms
        delay_ms = min(2 * delay_ms, MOST_MS)
    backoff.reset()
    assert FIRST_MS // 2 <= backoff.next_ms() <= FIRST_MS
