"""Two hosts on this machine: network namespaces with a link between them that can be cut, as a cable or a radio is, where
neither sends a FIN or a RST."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # where root's programs are
SERVER, CLIENT = "10.77.0.1", "10.77.0.2"  # inside the namespaces only


def why_not() -> str | None:
    """Why network namespaces cannot be made here, if so."""
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    if shutil.which("ip", path=PATH) is None:
        return "there is no ip (Debian: iproute2)"
    return None


def inside(name: str, *command: str) -> list[str]:
    """A command that runs in this namespace.  Not `ip netns exec`, which mounts /sys anew: a chroot may not."""
    return ["nsenter", f"--net=/run/netns/{name}", *command]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": PATH})
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _ip(name: str, *words: str) -> None:
    _run(*inside(name, "ip", *words))


class Link:
    """The server's host and the client's, with a link between them."""

    def __init__(self, name: str) -> None:
        self.server, self.client = f"{name}-s", f"{name}-c"

    def run_server(self) -> list[str]:
        """What to put before a command so that it runs on the server's host."""
        return inside(self.server)

    def inside(self, host: str, act: Callable[[], T]) -> T:
        """What act returns, called in a thread that is on that host: sockets made there stay there."""
        result: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                fd = os.open(f"/run/netns/{host}", os.O_RDONLY)
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                os.close(fd)
                result.append(act())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return result[0]

    def connect(self, port: int, timeout: float) -> socket.socket:
        return self.inside(self.client, lambda: socket.create_connection((SERVER, port), timeout=timeout))

    def cut(self) -> None:
        _ip(self.client, "link", "set", "eth0", "down")


@contextmanager
def link() -> Iterator[Link]:
    made = Link(f"fm{os.getpid()}")
    try:
        for name in (made.server, made.client):
            _run("ip", "netns", "add", name)
            _ip(name, "link", "set", "lo", "up")
        peer = ("peer", "name", "eth0", "netns", made.client)
        _ip(made.server, "link", "add", "eth0", "type", "veth", *peer)
        for name, address in ((made.server, SERVER), (made.client, CLIENT)):
            _ip(name, "address", "add", f"{address}/24", "dev", "eth0")
            _ip(name, "link", "set", "eth0", "up")
        yield made
    finally:
        for name in (made.server, made.client):
            subprocess.run(
                ["ip", "netns", "delete", name], capture_output=True, env={**os.environ, "PATH": PATH}, check=False
            )
