"""Claims about what decides: filters, rights, and what waits for a subscriber. No socket is opened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.hub import NodeAccess
from fleet.hub.session import MAX_IN_FLIGHT, MAX_QUEUED_MESSAGES, HubSession, Message
from fleet.hub.topics import SubscriptionTable, covers, is_filter, is_topic, matches

LEVELS = st.sampled_from(["a", "b", "", "ab"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.lists(LEVELS | st.just("+"), min_size=1, max_size=4)
    .flatmap(lambda levels: st.sampled_from([levels, [*levels, "#"]]))
    .map("/".join)
    .filter(bool)
)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [  # MQTT 3.1.1, sections 4.7.1 and 4.7.2
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/monitor", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/monitor", True),
    ],
)
def test_filters_match_as_the_standard_s_examples_do(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize("topic_filter", ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0"])
def test_a_filter_with_a_misplaced_wildcard_is_none(topic_filter: str) -> None:
    assert not is_filter(topic_filter)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0", "x" * 65_536])
def test_a_topic_with_a_wildcard_is_none(topic: str) -> None:
    assert not is_topic(topic)


@given(granted=FILTERS, wanted=FILTERS, topic=TOPICS)
def test_a_right_never_covers_a_filter_that_matches_more(granted: str, wanted: str, topic: str) -> None:
    if covers(granted, wanted) and matches(wanted, topic):
        assert matches(granted, topic)


@given(topic_filter=FILTERS)
def test_a_right_covers_itself_and_everything_covers_it(topic_filter: str) -> None:
    assert covers(topic_filter, topic_filter)
    assert covers("#", topic_filter)


@given(
    subscriptions=st.lists(st.tuples(st.sampled_from("xyz"), FILTERS, st.integers(0, 1))),
    gone=st.sets(st.sampled_from("xyz"), max_size=2),
    topic=TOPICS,
)
def test_receivers_are_exactly_those_whose_filters_match(
    subscriptions: list[tuple[str, str, int]], gone: set[str], topic: str
) -> None:
    table = SubscriptionTable()
    granted: dict[tuple[str, str], int] = {}
    for identity, topic_filter, qos in subscriptions:
        table.add(identity, topic_filter, qos)
        granted[identity, topic_filter] = qos
    for identity in gone:
        table.remove_all(identity)

    expected: dict[str, int] = {}
    for (identity, topic_filter), qos in granted.items():
        if identity not in gone and matches(topic_filter, topic):
            expected[identity] = max(qos, expected.get(identity, 0))
    assert table.receivers(topic) == expected


def test_passwords_may_come_from_a_function_and_are_asked_for_each_time() -> None:
    known: dict[str, bytes] = {}
    access = NodeAccess("gateway-01", b"x", known.get)

    assert access.authenticate("any", "sensor-01", b"key") is None
    known["sensor-01"] = b"key"
    assert access.authenticate("any", "sensor-01", b"key") == "sensor-01"


@pytest.mark.parametrize("name", ["+", "#", "a/b", "$SYS", "A", "", "a" * 33])
def test_a_name_that_topics_do_not_allow_never_authenticates(name: str) -> None:
    assert NodeAccess("gateway-01", b"x", {name: b"key"}).authenticate(name, name, b"key") is None


def test_an_empty_password_in_the_table_lets_nobody_in() -> None:
    access = NodeAccess("gateway-01", b"x", {"sensor-01": b""})
    assert access.authenticate("sensor-01", "sensor-01", b"") is None


def _session() -> HubSession:
    session = HubSession("sensor-01", clean=False, max_queued_bytes=10_000_000)
    session.connect()
    return session


def test_a_full_queue_drops_the_oldest_of_quality_0_and_never_exceeds_its_bound() -> None:
    session = _session()
    for number in range(MAX_QUEUED_MESSAGES + 5):
        session.offer(Message.of("t", b"%d" % number, 0), 0)

    assert session.waiting == MAX_QUEUED_MESSAGES
    assert session.dropped[0] == 5
    assert session.next_frame() == Message.of("t", b"5", 0).encoded


def test_a_queue_is_bounded_in_bytes_too() -> None:
    session = HubSession("sensor-01", clean=True, max_queued_bytes=1000)
    session.connect()
    for _ in range(20):
        session.offer(Message.of("t", b"x" * 96, 0), 0)

    assert session.waiting * 101 <= 1000
    assert not session.offer(Message.of("t", b"x" * 2000, 0), 0)


def test_messages_of_quality_1_wait_for_acknowledgements_and_do_not_hold_up_quality_0() -> None:
    session = _session()
    for _ in range(MAX_IN_FLIGHT + 1):
        session.offer(Message.of("t", b"kept", 1), 1)
    session.offer(Message.of("t", b"fleeting", 0), 1)
    frames = []
    while (frame := session.next_frame()) is not None:
        frames.append(frame)

    assert len(frames) == MAX_IN_FLIGHT + 1
    assert frames[-1] == Message.of("t", b"fleeting", 0).encoded
    session.acknowledge(1)
    assert session.next_frame() is not None
    assert session.next_frame() is None


def test_those_who_are_away_get_no_message_of_quality_0_kept() -> None:
    session = _session()
    session.offer(Message.of("t", b"unsent", 0), 0)
    session.disconnect()
    session.offer(Message.of("t", b"later", 0), 0)
    session.connect()

    assert session.next_frame() is None
