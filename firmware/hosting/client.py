"""paho's client as our connections want it: no retries, no threads, and through an interface where one is named."""

import socket

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

KEEPALIVE_S = 60
# A long safety net: a core's own time-outs come first, in its own time.
TCP_CONNECT_S = 5.0


class _Client(paho.Client):
    """A client of paho that connects through the interface of this name, whatever the routes say ("": they decide).

    Binding to its address would not do: Linux chooses the way by destination. paho has no hook between making a socket
    and connecting it.
    """

    interface = ""

    def _create_socket_connection(self) -> socket.socket:
        if not self.interface:
            return super()._create_socket_connection()
        return connect_through(self.interface, self._host, self._port)


def connect_through(interface: str, host: str, port: int) -> socket.socket:
    """Connect to `host` through an interface. Raises OSError that names it."""
    failure = OSError(f"{host}: no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(TCP_CONNECT_S)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            made.connect(address)
        except OSError as error:
            made.close()
            failure = OSError(error.errno, f"through {interface}: {error.strerror or error}")
        else:
            return made
    raise failure


def new_client(client_id: str, interface: str) -> paho.Client:
    """A client that leaves sockets and retries to us."""
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=True,
        protocol=paho.MQTTv311,
        reconnect_on_failure=False,
    )
    client.interface = interface
    client.connect_timeout = TCP_CONNECT_S
    return client
