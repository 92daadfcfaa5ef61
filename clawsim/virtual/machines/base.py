"""What all machines have in common: power that comes and goes, a process that freezes, dies and starts again.

A machine outlives its host: flash, disk and database stay when the process dies, and a new core is restored from them.
"""

from collections.abc import Callable
from typing import Any

from clawsim.virtual.host import VirtualHost

DAEMON_BOOT_US = 1_500_000


class Machine:
    """Power, freezing and restarting; subclasses make the core and perform its outputs."""

    boot_us = DAEMON_BOOT_US

    def __init__(self, world: Any, who: str) -> None:
        self.world = world
        self.id = who
        self.host: VirtualHost | None = None
        self.powered = False
        self._starts = 0

    @property
    def running(self) -> bool:
        """Whether its process runs (frozen or not)."""
        return self.host is not None and self.host.alive

    @property
    def responsive(self) -> bool:
        """Whether it would answer now."""
        return self.host is not None and self.host.alive and not self.host.frozen

    def power_on(self, delay_us: int | None = None) -> None:
        """Start the process, after its boot time."""
        self.powered = True
        self._starts += 1
        self.world.after(self.boot_us if delay_us is None else delay_us, self._boot, self._starts)

    def kill(self, silent: bool) -> None:
        """The process dies now; `silent`: with the whole machine, so that no peer is told."""
        self.powered = False
        self._starts += 1
        if self.host is not None:
            self.host.stop()
        self._disconnect(silent)

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.host is not None:
            self.host.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        if self.host is not None and self.host.alive:
            self.host.thaw()

    def call(self, method: str, *args: Any) -> Any:
        """An input of the core, if there is one."""
        return self.host.call(method, *args) if self.host is not None else None

    def _boot(self, start: int) -> None:
        if start == self._starts:
            self._start()

    def _start(self) -> None:
        raise NotImplementedError

    def _disconnect(self, silent: bool) -> None:
        raise NotImplementedError

    def _host(self, store: Callable[[list[Any]], Any], store_us: int, perform: dict[type, Any]) -> VirtualHost:
        world = self.world
        self.host = host = world.host_class(world.env, self.id, world.log, store, store_us, perform)
        return host  # type: ignore[no-any-return]
