"""MQTT brokers for a fleet: one embedded, and Mosquitto run as a child, both with the same rights by identity."""

from fleet.hub.access import Access, CertificateAccess, HubAccess, NodeAccess, Rights, StaticAccess
from fleet.hub.embedded import EmbeddedBroker
from fleet.hub.errors import HubError
from fleet.hub.mosquitto import write_mosquitto_files
from fleet.hub.mosquitto_process import MosquittoBroker
from fleet.hub.tls import TlsFiles

__all__ = [
    "Access",
    "CertificateAccess",
    "EmbeddedBroker",
    "HubAccess",
    "HubError",
    "MosquittoBroker",
    "NodeAccess",
    "Rights",
    "StaticAccess",
    "TlsFiles",
    "write_mosquitto_files",
]
