"""The API of the virtual world answers as the server's does: every route, logins included."""

from typing import Any

import pytest

from clawsim.scenario.errors import ScenarioError
from clawsim.virtual.world import VirtualWorld
from tests.virtual.scenes import run, scene

STREAM = "/api/v1/events/stream"
PASSWORD = "correct horse battery"
NAMES = {"node_id": "sensor-01", "gateway_id": "gateway-01", "action": "identify"}


def answers(*calls: tuple[str, Any]) -> list[dict[str, Any]]:
    """What an admin is answered, who asks one thing a second."""
    timeline = [
        {"at": f"{second + 180} s", "call": call, "as": "admin"} | ({} if body is None else {"body": body})
        for second, (call, body) in enumerate(calls)
    ]
    world = run(scene(timeline=timeline)).world
    assert isinstance(world, VirtualWorld)
    return list(world.operator.answers.values())


def test_no_route_fails_in_the_virtual_world() -> None:
    (description,) = answers(("GET /openapi.json", None))
    calls: list[tuple[str, Any]] = []
    for path, methods in description["body"]["paths"].items():
        names = NAMES | {
            part[1:-1]: "x" for part in path.split("/") if part.startswith("{") and part[1:-1] not in NAMES
        }
        for method in methods if path != STREAM else ():
            last = method == "delete" or path.endswith(("/stolen", "/rotate"))
            call = (f"{method.upper()} {path.format(**names)}", None if method in ("get", "delete") else {})
            calls.insert(len(calls) if last else 0, call)
    found = answers(*calls)
    wrong = {call: found[at] for at, (call, _) in enumerate(calls) if found[at]["status"] in (None, 500)}
    assert wrong == {} and len(found) > 60


def test_who_has_a_password_logs_in() -> None:
    user = {"name": "bob", "password": PASSWORD, "role": "viewer"}
    added, right, wrong = answers(
        ("POST /api/v1/users", user),
        ("POST /api/v1/auth/login", {"name": "bob", "password": PASSWORD}),
        ("POST /api/v1/auth/login", {"name": "bob", "password": PASSWORD + "!"}),
    )
    assert [added["status"], right["status"], wrong["status"]] == [201, 200, 401]


def test_the_status_goes_by_simulated_time() -> None:
    (status,) = answers(("GET /api/v1/fleet/status", None))
    assert status["body"]["uptime_s"] == pytest.approx(180, abs=1) and status["body"]["role"] == "leader"
    assert status["body"]["per_s"]["readings_stored"] > 0


def test_a_call_that_never_ends_is_a_mistake_of_the_scenario() -> None:
    with pytest.raises(ScenarioError) as caught:
        scene(timeline=[{"at": "1 min", "call": f"GET {STREAM}?kind=alert."}])
    assert "never ends" in str(caught.value)
