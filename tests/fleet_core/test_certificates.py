"""Certificates that run out: who is told, when, and how often."""

from fleet.core.certificates import DAY_MS
from tests.fleet_core.rig import EPOCH_MS, QUIET_MS, Cloud, Notify

END_MS = EPOCH_MS + 90 * DAY_MS


def learn(cloud: Cloud, day: float, **ends_utc_ms: int) -> None:
    """The host looks on that day after the fleet's beginning, and what it found is told."""
    cloud.core.learn_utc(EPOCH_MS + int(day * DAY_MS), cloud.now_ms)
    cloud.core.learn_certificates({name.replace("_", "-"): end for name, end in ends_utc_ms.items()}, cloud.now_ms)
    cloud.pump()
    cloud.later(QUIET_MS)


def told(cloud: Cloud) -> list[str]:
    """Each message once, however often it went out."""
    subjects = {notify.message_id: notify.subject for notify in cloud.of(Notify)}
    return [subject for subject in subjects.values() if subject.startswith("certificate")]


def test_people_are_told_once_at_each_step_and_not_before() -> None:
    cloud = Cloud().started()
    for day in range(93):
        for _ in range(3):
            learn(cloud, day, gateway_01=END_MS, gateway_02=END_MS * 2)

    assert told(cloud) == [
        "certificate of gateway-01 runs out in 13 days",
        "certificate of gateway-01 runs out in 6 days",
        "certificate of gateway-01 runs out in 2 days",
        "certificate of gateway-01 runs out in 0 days",
        "certificate of gateway-01 has run out",
    ]
    assert [event["days"] for event in cloud.events("certificate.expiring")] == [13, 6, 2, 0, -1]


def test_a_restart_repeats_nothing() -> None:
    cloud = Cloud().started()
    learn(cloud, 80, gateway_01=END_MS)
    cloud.power_on()
    learn(cloud, 80, gateway_01=END_MS)

    assert told(cloud) == ["certificate of gateway-01 runs out in 10 days"]


def test_a_renewed_certificate_is_a_new_story() -> None:
    cloud = Cloud().started()
    learn(cloud, 80, gateway_01=END_MS)
    learn(cloud, 81, gateway_01=END_MS + 80 * DAY_MS)
    learn(cloud, 165, gateway_01=END_MS + 80 * DAY_MS)

    assert told(cloud) == [f"certificate of gateway-01 runs out in {days} days" for days in (10, 5)]


def test_a_database_that_fails_loses_no_warning() -> None:
    cloud = Cloud().started()
    cloud.refuse_stores = True
    learn(cloud, 80, gateway_01=END_MS)
    assert told(cloud) == []
    cloud.refuse_stores = False
    learn(cloud, 80, gateway_01=END_MS)

    assert told(cloud) == ["certificate of gateway-01 runs out in 10 days"]
