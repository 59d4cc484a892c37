"""Applications that close descriptors that are not theirs."""

from __future__ import annotations

import contextlib
import os
import resource
import socket

from routes import Routes, arguments, text

app = Routes()


# Descriptors


def _sockets():
    """Descriptor -> (local port, peer port or None, listening) of the TCP sockets of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                continue
            with contextlib.closing(socket.socket(fileno=os.dup(fd))) as s:
                if s.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                listening = bool(s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                found[fd] = (s.getsockname()[1], None if listening else s.getpeername()[1], listening)
        except OSError:
            pass
    return found


def _of_client(port):
    return next(fd for fd, (_, peer, _) in _sockets().items() if peer == port)


def _listening(port):
    return next(fd for fd, (own, _, listening) in _sockets().items() if listening and own == port)


_taker, _taker_peer = socket.socketpair()


def _anonymous(kind):
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == f"anon_inode:{kind}":
                found.append(int(name))
    return sorted(found)


def close_client(port):
    """os.close of the number of a client's connection, by a thread that has nothing to do with it."""
    fd = _of_client(port)
    os.close(fd)
    return fd


def of_client(port):
    return _of_client(port)


def close_listener(port):
    fd = _listening(port)
    os.close(fd)
    return fd


def dup_over_client(port):
    null = os.open("/dev/null", os.O_RDWR)
    fd = _of_client(port)
    os.dup2(null, fd)
    os.close(null)
    return fd


def close_descriptor(fd):
    os.close(fd)


@app.route
def closes(environ, start_response):
    """Closes descriptors in the midst of a request."""
    what = arguments(environ)["what"]
    if what == "epoll":
        for fd in _anonymous("[eventpoll]"):
            os.close(fd)
    elif what == "eventfds":
        for fd in _anonymous("[eventfd]"):
            os.close(fd)
    elif what == "timerfds":
        for fd in _anonymous("[timerfd]"):
            os.close(fd)
    elif what in ("epoll-taken", "eventfds-taken", "timerfds-taken"):
        kind = {"epoll-taken": "[eventpoll]", "eventfds-taken": "[eventfd]", "timerfds-taken": "[timerfd]"}[what]
        for fd in _anonymous(kind):
            os.dup2(_taker.fileno(), fd)
    elif what == "range":
        os.closerange(3, 1000)
    elif what == "std":
        for fd in (0, 1, 2):
            os.close(fd)
    elif what == "own":
        os.close(_of_client(int(environ["REMOTE_PORT"])))
    return text(start_response, "closed")


@app.route
def limits_files(environ, start_response):
    """Lowers RLIMIT_NOFILE to what is open; the test raises it again by a call."""
    return text(start_response, str(limit_files(0)))


_first_limit = resource.getrlimit(resource.RLIMIT_NOFILE)


def limit_files(soft):
    soft = soft or len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return soft
