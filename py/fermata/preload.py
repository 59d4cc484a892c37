"""Can a process that has loaded the application be forked?  Compiled into the binary; runs in the zygote of --preload, on
its only thread, and after the fork in the worker."""

from __future__ import annotations

import _socket
import gc
import os
import stat
import threading
import time

__all__ = ["begin", "born", "settle", "slot", "sockets", "threads"]

_MOST = 12  # that are named
_ENDING = 0.5  # seconds in which a thread that was joined is gone from /proc, too

_before: dict[str, set[int]] = {"threads": set(), "sockets": set()}


def begin() -> None:
    """A sanitizer's runtime has a thread from the beginning, and standard streams may be sockets."""
    _before["threads"] = _thread_ids()
    _before["sockets"] = {inode for _, inode in _open_sockets()}


def threads() -> str:
    """Those that the import has left running, by the kernel's id and by name; '' if there are none."""
    until = time.monotonic() + _ENDING
    while (left := _thread_ids() - _before["threads"]) and time.monotonic() < until:
        time.sleep(0.01)
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    return _list([f"{tid} {names.get(tid) or _comm(tid)!r}" for tid in sorted(left)])


def sockets() -> str:
    """Those that the import has left open, by descriptor and address; '' if there are none."""
    return _list([f"{fd} {_describe(fd)}" for fd, inode in _open_sockets() if inode not in _before["sockets"]])


def settle() -> None:
    """A collection in a worker would write to each object, which copies its page: so what is there now is left alone."""
    gc.collect()
    gc.freeze()


def slot(number: int) -> None:
    """Also for what os.register_at_fork has registered."""
    os.environ["FERMATA_WORKER"] = str(number)


def born() -> None:
    """CPython before 3.13 leaves the main thread the number of the process that was forked."""
    main = threading.main_thread()
    if hasattr(main, "_set_native_id"):
        main._set_native_id()


def _list(items: list[str]) -> str:
    more = len(items) - _MOST
    return ", ".join(items[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _thread_ids() -> set[int]:
    """The kernel's, so that those are among them that no Python code has started; Python's where there is no /proc."""
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        return {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}


def _comm(tid: int) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def _open_sockets() -> list[tuple[int, int]]:
    """Descriptor and inode of each."""
    found = []
    try:
        numbers = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    except OSError:
        return []
    for fd in numbers:
        try:
            status = os.fstat(fd)
        except OSError:
            continue  # that of the listing itself
        if stat.S_ISSOCK(status.st_mode):
            found.append((fd, status.st_ino))
    return found


def _describe(fd: int) -> str:
    socket = _socket.socket(fileno=fd)
    try:
        try:
            return f"to {_address(socket.getpeername())}"
        except OSError:
            return f"at {_address(socket.getsockname())}"
    except OSError:
        return "(without an address)"
    finally:
        socket.detach()


def _address(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
        return f"{host}:{address[1]}"
    if isinstance(address, bytes):
        return "@" + address[1:].decode(errors="replace") if address[:1] == b"\0" else os.fsdecode(address)
    return str(address) or "a socket pair"
