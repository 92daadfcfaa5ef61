"""Who may connect to a broker, and what each may publish and read.

Two static tables of rights, one for a gateway's local broker and one for the Event Hub. The embedded broker asks them;
`fleet.hub.mosquitto` writes the same tables as files for Mosquitto, so that both brokers grant the same.
"""

import hashlib
import hmac
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fleet.hub.errors import HubError
from fleet.hub.topics import covers, is_filter, matches

PasswordLookup = Callable[[str], bytes | None]

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_DOWN_TO_NODE = ("cmd", "received")
_UP_TO_HUB = ("batch", "batch/gz", "heartbeat", "status", "ack", "config/ack")
DOCTOR = "hub-doctor"  # who examines a hub, with rights to nothing but its own topic
DOCTOR_TOPIC = f"clawland/{DOCTOR}/probe"
VERSION_TOPIC = "$SYS/broker/version"
_DOWN_TO_GATEWAY = ("batch/ack", "heartbeat/ack", "cmd", "config")


class Access(Protocol):
    """Who may connect and what each may do. Called in the event loop: an implementation must not block."""

    def authenticate(self, client_id: str, username: str | None, password: bytes | None) -> str | None:
        """The identity of who connects, or None to refuse (CONNACK return code 5).

        The session belongs to the identity, whatever the client id: no one can disconnect or inherit another's.
        """
        ...

    def identify(self, name: str) -> str | None:
        """The identity that a verified client certificate's common name stands for, or None to refuse.

        Asked instead of `authenticate` where clients bring certificates: user name and password mean nothing there.
        """
        ...

    def may_publish(self, identity: str, topic: str) -> bool: ...

    def may_subscribe(self, identity: str, topic_filter: str) -> bool: ...


@dataclass(frozen=True)
class Rights:
    """What one identity may do, as topic filters. `withheld` are topics that `publish` covers and that it may not."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


class StaticAccess(ABC):
    """An `Access` from a table of passwords and one of rights; the user name is the identity.

    Passwords may come, change and go while a broker runs: they are looked up at each connection.
    """

    def __init__(self, passwords: Mapping[str, bytes] | PasswordLookup, fixed: Mapping[str, bytes]) -> None:
        for identity in fixed:
            require_identity(identity)
        self._passwords = passwords
        self._fixed = dict(fixed)
        self._key = os.urandom(32)  # so that digests of passwords mean nothing outside this process

    def authenticate(self, client_id: str, username: str | None, password: bytes | None) -> str | None:
        """The identity, or None. Takes the same time for an unknown name as for a wrong password."""
        stored = self.password_of(username) if username is not None else None
        given = self._digest(password if password is not None else b"")
        equal = hmac.compare_digest(given, self._digest(stored if stored is not None else b""))
        return username if equal and stored and password is not None else None

    def identify(self, name: str) -> str | None:
        """The name itself, if it is one of the table's."""
        return name if self.password_of(name) else None

    def may_publish(self, identity: str, topic: str) -> bool:
        rights = self.rights_of(identity)
        return topic not in rights.withheld and any(matches(granted, topic) for granted in rights.publish)

    def may_subscribe(self, identity: str, topic_filter: str) -> bool:
        granted = self.rights_of(identity).subscribe
        return is_filter(topic_filter) and any(covers(each, topic_filter) for each in granted)

    @abstractmethod
    def rights_of(self, identity: str) -> Rights: ...

    def password_of(self, identity: str) -> bytes | None:
        """The password now in force, or None for a name that is unknown or cannot be an identity."""
        if not _ID.fullmatch(identity):
            return None
        if identity in self._fixed:
            return self._fixed[identity]
        return self._passwords(identity) if callable(self._passwords) else self._passwords.get(identity)

    def identities(self) -> list[str]:
        """All who may connect, sorted.

        Raises HubError when passwords come from a function, which cannot be asked for all of them.
        """
        if callable(self._passwords):
            raise HubError("a broker that keeps its own password file needs a table of passwords, not a function")
        return sorted({*self._fixed, *self._passwords})

    def _digest(self, secret: bytes) -> bytes:
        return hmac.new(self._key, secret, hashlib.sha256).digest()


class NodeAccess(StaticAccess):
    """Rights on a gateway's local broker.

    A node publishes to `clawland/{its id}/{one level}` except the down-going `cmd` and `received`, and subscribes to
    just those two of its own. The gateway publishes those two to any node and reads everything below `clawland/`.
    """

    def __init__(
        self, gateway_identity: str, gateway_password: bytes, passwords: Mapping[str, bytes] | PasswordLookup
    ) -> None:
        super().__init__(passwords, {gateway_identity: gateway_password})
        self._gateway = gateway_identity
        self._gateway_rights = Rights(publish=_topics("+", _DOWN_TO_NODE), subscribe=("clawland/#",))

    def rights_of(self, identity: str) -> Rights:
        if identity == self._gateway:
            return self._gateway_rights
        down = _topics(identity, _DOWN_TO_NODE)
        return Rights(publish=(f"clawland/{identity}/+",), subscribe=down, withheld=down)


class HubAccess(StaticAccess):
    """Rights on the Event Hub.

    A gateway publishes the up-going topics of its own id and subscribes to the down-going ones of its own id; the
    manager publishes the down-going topics of any gateway and reads everything; the doctor speaks to itself.
    """

    def __init__(
        self, passwords: Mapping[str, bytes] | PasswordLookup, manager_identity: str, manager_password: bytes
    ) -> None:
        super().__init__(passwords, {manager_identity: manager_password})
        self._manager = manager_identity
        self._manager_rights = Rights(publish=_topics("+", _DOWN_TO_GATEWAY), subscribe=("#",))

    def rights_of(self, identity: str) -> Rights:
        if identity == self._manager:
            return self._manager_rights
        if identity == DOCTOR:
            return Rights(publish=(DOCTOR_TOPIC,), subscribe=(DOCTOR_TOPIC, VERSION_TOPIC))
        return Rights(publish=_topics(identity, _UP_TO_HUB), subscribe=_topics(identity, _DOWN_TO_GATEWAY))

    def identify(self, name: str) -> str | None:
        """Also the doctor, whom only the authority can send."""
        return name if name == DOCTOR else super().identify(name)


class CertificateAccess(HubAccess):
    """The same rights where the certificate authority alone decides who is in: no password lets anybody in."""

    def __init__(self, manager_identity: str) -> None:
        super().__init__({}, manager_identity, b"")
        self.manager = manager_identity

    def authenticate(self, client_id: str, username: str | None, password: bytes | None) -> None:
        return None

    def identify(self, name: str) -> str | None:
        return name if _ID.fullmatch(name) else None


def require_identity(identity: str) -> None:
    """Raise HubError unless `identity` is a name that the topics allow."""
    if not _ID.fullmatch(identity):
        raise HubError(f"{identity!r} cannot be an identity: use at most 32 of a-z, 0-9 and '-', not '-' first")


def _topics(identity: str, verbs: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"clawland/{identity}/{verb}" for verb in verbs)
