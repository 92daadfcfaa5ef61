"""All sensors of a board, in the order of the core's: measurements that take their time, and parts that speak up.

One part can serve several sensors; when they are asked together it measures once.
"""

from firmware.drivers import Fault


class Sensors:
    """`start` what the core wants sampled, `poll` at every turn, and give the core what comes."""

    def __init__(self, wiring: list) -> None:
        """`wiring`: by sensor `(part, what, exp)`; `what` the part measures goes to a sensor of this resolution. For a
        part that speaks for itself both are None."""
        self._wiring = wiring
        self._waiting: list = []  # [part, indexes, why it did not begin] under way
        self.has_speakers = any([entry[1] is None for entry in wiring])
        self._speakers = [(index, entry[0]) for index, entry in enumerate(wiring) if entry[1] is None]

    def start(self, index: int, now_ms: int) -> None:
        """Sensor `index` shall be read."""
        part = self._wiring[index][0]
        for entry in self._waiting:
            if entry[0] is part:
                if index not in entry[1]:
                    entry[1].append(index)
                return
        reason = ""
        try:
            part.begin(now_ms)
        except (Fault, OSError) as error:
            reason = str(error) or "failed"
            part.ready_ms = now_ms
        self._waiting.append([part, [index], reason])

    def next_deadline(self) -> "int | None":
        """When to `poll` next, in the milliseconds of `now_ms`."""
        due = [entry[0].ready_ms for entry in self._waiting] + [entry[1].due_ms for entry in self._speakers]
        return min(due) if due else None

    def poll(self, now_ms: int) -> "list[tuple]":
        """What has come: `(index, value, reason)`, where value is None for a part that failed for this reason."""
        results: list[tuple] = []
        for entry in [entry for entry in self._waiting if entry[0].ready_ms <= now_ms]:
            part, indexes, reason = entry
            values = None
            if not reason:
                values, reason = _attempt(part.read, now_ms)
            if values is None and not reason:
                continue
            self._waiting.remove(entry)
            for index in indexes:
                _, what, exp = self._wiring[index]
                value = None if values is None else rescale(values[what], part.exp[what], exp)
                results.append((index, value, reason))
        for index, part in self._speakers:
            if part.due_ms <= now_ms:
                value, reason = _attempt(part.poll, now_ms)
                if value is not None or reason:
                    results.append((index, value, reason))
        return results


def _attempt(method, now_ms: int) -> tuple:
    """(what `method` gives, why it gives nothing)."""
    try:
        return method(now_ms), ""
    except (Fault, OSError) as error:
        return None, str(error) or "failed"


def rescale(value, exp: int, wanted: int):
    """An integer of 10^-`exp` in units of 10^-`wanted`, rounded half away from zero; anything else as it is."""
    if type(value) is not int or exp == wanted:
        return value
    if wanted > exp:
        return value * 10 ** (wanted - exp)
    scale = 10 ** (exp - wanted)
    return (2 * value + scale) // (2 * scale) if value >= 0 else -((scale - 2 * value) // (2 * scale))
