"""What a running gateway says about itself: for `nanoclaw status`, for its status file, and for whoever scrapes it."""

import os
from collections import deque
from typing import Any

from firmware.hosting.clock import Clock
from nanoclaw.core.gateway import GatewayCore
from nanoclaw.core.outbox import room_readings
from nanoclaw.host.config import GatewaySettings
from nanoclaw.host.hub_ports import HubPorts
from nanoclaw.host.status import moved_aside

RATE_OVER_MS = 900_000
SAMPLE_EVERY_MS = 10_000
HOUR_MS = 3_600_000


class Report:
    """Puts together what core and host know; `before` is the last report of the run before this one."""

    def __init__(
        self, settings: GatewaySettings, core: GatewayCore, clock: Clock, hub: HubPorts, before: dict[str, Any]
    ) -> None:
        self._settings = settings
        self._core = core
        self._clock = clock
        self._hub = hub
        self._answered_before_ms = before.get("answered_utc_ms")
        self._moved_aside = moved_aside(settings.data)
        self.started_utc_ms = clock.utc_ms()
        self._taken: deque[tuple[int, int]] = deque()

    def sample(self) -> None:
        """Note how many readings have come; to be called now and then."""
        now_ms = self._clock.now_ms()
        if self._taken and now_ms - self._taken[-1][0] < SAMPLE_EVERY_MS:
            return
        self._taken.append((now_ms, self._core.outbox.next_id))
        while now_ms - self._taken[0][0] > RATE_OVER_MS:
            self._taken.popleft()

    def readings_per_hour(self) -> float | None:
        """The rate of the last quarter of an hour; None before there is one."""
        now_ms = self._clock.now_ms()
        if not self._taken or now_ms - self._taken[0][0] < SAMPLE_EVERY_MS:
            return None
        since_ms, count = self._taken[0]
        return (self._core.outbox.next_id - count) * HOUR_MS / (now_ms - since_ms)

    def outbox_hours(self) -> float | None:
        """How long the outbox has room at the present rate; None when nothing comes."""
        rate = self.readings_per_hour()
        outbox, config = self._core.outbox, self._core.config
        room = room_readings(len(outbox), outbox.bytes, config.outbox_max_readings, config.outbox_max_bytes)
        return room / rate if rate else None

    def answered_utc_ms(self) -> int | None:
        """When the cloud last answered, in this run or an earlier one."""
        link = self._core.uplink
        if not link.talking and link.answered_ms <= self._core.start_ms:
            return self._answered_before_ms
        return self._clock.utc_ms() - (self._clock.now_ms() - link.answered_ms)

    def uplinks(self) -> list[dict[str, Any]]:
        """The lines with what the host knows of each."""
        views = self._hub.views()
        lines = self._core.uplink.view(self._core.config.window_ms)
        return [{**line, **views[str(line["name"])]} for line in lines]

    def nodes(self) -> list[dict[str, Any]]:
        """Each node and its state."""
        return [{"id": node.id, "state": node.state or "unseen"} for node in self._core.nodes.values()]

    def all(self, running: bool, ports: dict[str, Any], failures: list[str]) -> dict[str, Any]:
        """The whole of it."""
        config, settings = self._settings.core, self._settings
        uplinks = self.uplinks()
        used = next(line for line in uplinks if line["used"])
        hours, rate = self.outbox_hours(), self.readings_per_hour()
        return {
            "id": config.id,
            "fleet": config.fleet_id,
            "site": config.site,
            "role": config.role,
            "running": running,
            "pid": os.getpid(),
            "utc_ms": self._clock.utc_ms(),
            "started_utc_ms": self.started_utc_ms,
            "answered_utc_ms": self.answered_utc_ms(),
            **ports,
            "uplink": used["target"],
            "uplink_failure": used["failure"],
            **self._core.status(),
            "uplinks": uplinks,
            "nodes": self.nodes(),
            "lora": None if self._core.lora is None else self._core.lora.view(self._clock.now_ms()),
            "outbox_max_readings": config.outbox_max_readings,
            "outbox_max_bytes": config.outbox_max_bytes,
            "outbox_hours": None if hours is None else round(hours, 2),
            "readings_per_hour": None if rate is None else round(rate, 1),
            "broker": settings.broker,
            "moved_aside": self._moved_aside,
            "monitor_host": settings.monitor_host,
            "failures": failures,
        }
