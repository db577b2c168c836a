"""Addresses and interfaces through which other machines reach this one."""

from __future__ import annotations

import socket
import struct
import sys
import time

from sparsevod_core.errors import ConfigError

GET_ADDRESS = 0x8915  # SIOCGIFADDR, Linux
RETRY_S = 0.5


def parse_endpoint(text: str) -> tuple[str, int]:
    """Split HOST:PORT into its parts.

    Raises:
        ConfigError: The text has another form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"--rendezvous {text}: expected HOST:PORT", hint="e.g. --rendezvous node01:29400"
        )
    return host, int(port)


def address_towards(host: str) -> str:
    """Return this machine's IPv4 address on the route to `host`, or `host` if it is this machine.

    Raises:
        OSError: The name does not resolve, or there is no route.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        own, theirs = probe.getsockname()[0], probe.getpeername()[0]
    return host if own == theirs or own.startswith("127.") else own


def interface_of(host: str) -> str | None:
    """Return the interface that has this address, e.g. eth0; None if it cannot be determined."""
    if sys.platform != "linux":
        return None
    import fcntl

    address = socket.inet_aton(socket.gethostbyname(host))
    if address[0] == 127:
        return "lo"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket, GET_ADDRESS, request)
            except OSError:
                continue  # an interface without an address
            if answer[20:24] == address:
                return name
    return None


def wait_for_listener(host: str, port: int, timeout_s: float) -> bool:
    """Wait until a program listens on a port, and return False after `timeout_s` without one."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            socket.create_connection((host, port), timeout=left).close()
        except OSError:
            time.sleep(min(RETRY_S, left))
        else:
            return True
    return False
