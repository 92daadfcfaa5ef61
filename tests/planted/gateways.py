"""Bugs planted in the gateway's core, one for each promise that `tests.nanoclaw_core.machine` checks."""

import traceback
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from firmware.wire.outputs import Send
from nanoclaw.core.gateway import GatewayCore
from tests.nanoclaw_core.machine import Outage
from tests.planted.cores import AcknowledgesTooEarly, DropsItsOutbox


class ReusesItsBootNumber(GatewayCore):
    """Numbers the readings of bare boards as it did in its last life."""

    def __init__(self, config: Any, restored: Any, rng: Any, now_ms: int) -> None:
        slots = dict(restored.get("slots", {}))
        if "boot" in slots:
            slots["boot"] -= 1
        super().__init__(config, {**restored, "slots": slots}, rng, now_ms)


class KeepsEverything(GatewayCore):
    """Never lets the oldest readings go."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.outbox.surplus = lambda *_: []  # type: ignore[method-assign]


class BelievesLateReadings(GatewayCore):
    """Judges what was read an hour ago as if it were now."""

    def __init__(self, config: Any, *args: Any) -> None:
        super().__init__(replace(config, late_ms=10**9), *args)


class ForgetsWhatItHasSent(GatewayCore):
    """Keeps a command no longer once the node has been asked, answer or not."""

    def take_outputs(self) -> list[Any]:
        outputs = super().take_outputs()
        for output in outputs:
            if isinstance(output, Send) and output.port == "nodes" and output.topic.endswith("/cmd"):
                for name in [name for name in self.commands._orders._orders if name.startswith("c-")]:
                    self.stores.put(f"cmd:{name}", None)
        return outputs


class RenamesCommands(GatewayCore):
    """Asks the node again under another id."""

    _fresh = count(1)

    def send_node(self, node: Any, verb: str, body: bytes) -> None:
        super().send_node(node, verb, self._renamed(body) if verb == "cmd" else body)

    def _renamed(self, body: bytes) -> bytes:
        return body.replace(b'"id": "c-', b'"id": "again-%d-' % next(self._fresh))


class RepeatsWhatWasAnswered(GatewayCore):
    """Asks the node once more for what it has answered."""

    def receive(self, port: str, name: str, payload: bytes, now_ms: int) -> None:
        orders = dict(self.commands._orders._orders)
        super().receive(port, name, payload, now_ms)
        if name.endswith("/ack") and port == "nodes":
            self.commands._orders._orders.update({key: each for key, each in orders.items() if key.startswith("c-")})


@dataclass(frozen=True)
class GatewayBug:
    """`caught_by` is the invariant of the machine that fails."""

    name: str
    caught_by: str
    core: type[GatewayCore]


GATEWAY_BUGS = (
    GatewayBug("a gateway that drops its outbox on reconnect", "nothing_that_was_acknowledged_is_lost", DropsItsOutbox),
    GatewayBug(
        "a gateway that acknowledges before the disk has it",
        "a_reading_is_on_disk_before_its_node_hears_received",
        AcknowledgesTooEarly,
    ),
    GatewayBug("a gateway that reuses its boot number", "no_reading_goes_up_with_two_contents", ReusesItsBootNumber),
    GatewayBug("a gateway that keeps everything", "the_outbox_on_disk_is_bounded", KeepsEverything),
    GatewayBug("a gateway that takes late readings for the present", "the_past_raises_no_alert", BelievesLateReadings),
    GatewayBug(
        "a gateway that forgets a command once it is sent",
        "a_command_is_on_disk_until_it_is_answered_or_its_time_is_over",
        ForgetsWhatItHasSent,
    ),
    GatewayBug(
        "a gateway that asks again under another id",
        "a_command_reaches_its_node_under_one_id_and_not_when_it_is_over",
        RenamesCommands,
    ),
    GatewayBug(
        "a gateway that asks again for what was answered",
        "a_command_reaches_its_node_under_one_id_and_not_when_it_is_over",
        RepeatsWhatWasAnswered,
    ),
)
_FIND = settings(
    max_examples=600, stateful_step_count=40, deadline=None, database=None, derandomize=True, phases=[Phase.generate]
)


def failed_with(core: type[GatewayCore]) -> list[str]:
    """The functions in which the machine ended with this core in it, outermost first; [] when nothing was found."""
    machine = type("Planted", (Outage,), {"core_type": core})
    try:
        run_state_machine_as_test(machine, settings=_FIND)
    except AssertionError as error:
        return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return []
