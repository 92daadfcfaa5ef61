"""What a core asks its host to do: small frozen records, performed in the order given.

Every core of every tier speaks with these, so one virtual host can drive them all. `collections.namedtuple` is the
record type because MicroPython has no dataclasses.
"""

from collections import namedtuple

Send = namedtuple("Send", ("port", "topic", "payload"))
"Publish `payload` (bytes) under `topic` on the connection named `port`; dropped when it is not up."

Store = namedtuple("Store", ("token", "writes"))
"""Make `writes` durable as one transaction, in their order.

With a `token` the host answers `stored(token, now_ms)` or `store_failed(token, reason, now_ms)`; None wants no answer.
"""

Event = namedtuple("Event", ("kind", "fields"))
"Something happened; traced before any later output is performed."

Connect = namedtuple("Connect", ("port", "target"))
"Make one attempt to connect and subscribe; answered by `link_up(port)` or `link_down(port)`."

Disconnect = namedtuple("Disconnect", ("port",))
"Drop the connection or the attempt now; nothing of it may reach the core afterwards."

Notify = namedtuple("Notify", ("message_id", "subject", "body"))
"Tell people, at least once; answered by `notified(message_id, ok, now_ms)`."

Scan = namedtuple("Scan", ())
"Look for gateways (`_clawland._tcp.local`); answered by `found(gateways, now_ms)`."

Sample = namedtuple("Sample", ("index",))
"Read the sensor with this index now; answered by `sampled(index, value, now_ms)`."

Alarm = namedtuple("Alarm", ("on", "by"))
"Sound or silence the local alarm; `by` says who asked: node, gateway or cloud."

Identify = namedtuple("Identify", ("for_ms",))
"Blink the board's light for so long, so that somebody can find it."

Sleep = namedtuple("Sleep", ("for_ms",))
"""Nothing is due for `for_ms`, and the connection was given up: a host that can sleeps so long.

If RAM is kept it calls `on_timer` then, or earlier when an event sensor wakes it; if RAM is lost it starts a new core.
"""

Restart = namedtuple("Restart", ())
"Restart the board: RAM is lost, flash is kept."

Credentials = namedtuple("Credentials", ("passwords",))
"The local broker's whole table of passwords (bytes) by node id."

Transmit = namedtuple("Transmit", ("frequency_hz", "sf", "frame"))
"""Send `frame` by LoRa now. A second after its end (`firmware.wire.lora.RECEIVE_DELAY_MS`) listen on the same channel
with the same spreading factor; what is heard comes by `receive("radio", "", frame, now_ms)`."""
