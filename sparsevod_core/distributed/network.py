"""Which of this machine's addresses and interfaces the other machines are reached by."""

from __future__ import annotations

import socket
import struct
import sys
import time

from sparsevod_core.errors import ConfigError

GET_ADDRESS = 0x8915  # SIOCGIFADDR, Linux
RETRY_S = 0.5


def parse_endpoint(text: str) -> tuple[str, int]:
    """HOST:PORT as its parts.

    Raises:
        ConfigError: anything else.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"--rendezvous {text}: expected HOST:PORT", hint="e.g. --rendezvous node01:29400"
        )
    return host, int(port)


def address_towards(host: str) -> str:
    """This machine's IPv4 address on the way to `host`; a machine reaches itself by that name.

    Raises:
        OSError: the name does not resolve, or no way leads there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((host, 9))  # sends nothing
        own, theirs = way.getsockname()[0], way.getpeername()[0]
    return host if own == theirs or own.startswith("127.") else own


def interface_of(host: str) -> str | None:
    """The interface that has this address, e.g. eth0; None where that cannot be told."""
    if sys.platform != "linux":
        return None
    import fcntl

    address = socket.inet_aton(socket.gethostbyname(host))
    if address[0] == 127:
        return "lo"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            asked = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket, GET_ADDRESS, asked)
            except OSError:
                continue  # an interface without an address
            if answer[20:24] == address:
                return name
    return None


def wait_for_listener(host: str, port: int, patience_s: float) -> bool:
    """Whether anyone listens there before so many seconds have passed."""
    deadline = time.monotonic() + patience_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            socket.create_connection((host, port), timeout=left).close()
        except OSError:
            time.sleep(min(RETRY_S, left))
        else:
            return True
    return False
