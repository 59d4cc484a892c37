"""Every call that is made while the server starts, and while it ends, fails in turn.

A start either succeeds all the same or ends soon, with an exit code that is not 0 and a message, and leaves no socket
behind; an end loses no request that was under way, and comes.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from control import FAIL, Control, Site
from harness.client import build
from harness.limits import LONG, eventually, timeout
from harness.server import Server
from scenario import keep_alive, run
from test_injection import Fault, Say, chosen, hows_of, tell

AT_START = {
    "bind": (errno.EADDRINUSE,),
    "dup": (errno.EMFILE,),
    "epoll_create1": (errno.EMFILE,),
    "eventfd": (errno.EMFILE,),
    "getsockname": (errno.ENOBUFS,),
    "listen": (errno.EADDRINUSE,),
    "socket": (errno.EMFILE, errno.ENFILE),
    "timerfd_create": (errno.EMFILE,),
    "Py_InitializeFromConfig": (FAIL,),
}
# Exit codes of a start that failed, as README.md has them; -6 is an allocation of the server's own, which is small and
# made only then.
FAILED = (1, 2, 3, -6)


def launch(control: Control, directory: Path, leaks: bool) -> Server:
    return Server(
        "faulted:app",
        *("--threads", "2", "--graceful-timeout", "5", "--access-logfile", str(directory / "access")),
        bind=[f"unix:{directory / 'socket'}"],
        admin=True,
        env={
            **control.env,
            "PYTHONMALLOC": "malloc",
            **({} if leaks else {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=99"}),
        },
    )


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    c = Control(tmp_path / "control")
    yield c
    c.close()


def hows(site: Site) -> tuple[int, ...]:
    return tuple(AT_START.get(site.function) or hows_of(site))


def try_start(control: Control, directory: Path, fault: Fault) -> list[str]:
    control.order(fault.site, fault.how)
    server = launch(control, directory, leaks=False)
    try:

        def decided() -> bool:
            lost = "dropped while it could not be written" in server.log()  # where it listens, perhaps
            there = len(server.addresses()) > 0 and (lost or server.admin_address() is not None)
            return not server.alive() or there

        eventually(decided, "it listens or ends", within=LONG)
        if server.alive():
            control.cancel()
            if not dict(run(server, [keep_alive]))["keep_alive"]:
                server.stop()
                return []
        code, log = server.wait_exit(), server.log()
        complaints = [] if code in FAILED else [f"exit code {code}"]
        if not re.search(r"CRITICAL|Error|error", log):
            complaints.append("no message")
        if "Sanitizer" in log:
            complaints.append("a sanitizer complains")
        if (directory / "socket").exists() and code != -6:
            complaints.append("it leaves its socket behind")
        return [f"{', '.join(complaints)}: {log[-1500:]!r}"] if complaints else []
    except Exception as error:
        return [f"{type(error).__name__}: {error}: {server.log()[-1500:]!r}"]
    finally:
        control.cancel()
        server.discard()
        (directory / "socket").unlink(missing_ok=True)


@timeout(600)
def test_start(control: Control, tmp_path: Path, record_property: Say) -> None:
    server = launch(control, tmp_path, leaks=False).wait_ready()
    sites = list(control.sites().values())
    server.stop()
    assert {"malloc", "socket", "PyType_FromSpec"} <= {site.function for site in sites}
    sites = [site for site in sites if "fm_log_raw" not in site.label]  # a line that is lost is lost
    faults = [Fault(site, how, False, keep_alive) for site in sites for how in hows(site) if how != errno.EINTR]
    tell(record_property, [(fault.name, try_start(control, tmp_path, fault)) for fault in chosen(faults, 15)], len(faults))


def try_end(control: Control, directory: Path, fault: Fault) -> list[str]:
    server = launch(control, directory, leaks=True).wait_ready()
    try:
        c = server.connect()
        c.send(build("GET", "/park"))
        answer = c.read_head()
        control.order(fault.site, fault.how)
        server.signal(15)
        body = b"".join(c.iter_body(answer))
        complaints = [] if body == b"before between after" else [f"the request was cut: {body!r}"]
        c.sock.shutdown(socket.SHUT_RDWR)
        server.stop()
        return complaints
    except Exception as error:
        return [f"{type(error).__name__}: {error}: {server.log()[-1500:]!r}"]
    finally:
        control.cancel()
        server.discard()
        (directory / "socket").unlink(missing_ok=True)


@timeout(600)
def test_end(control: Control, tmp_path: Path, record_property: Say) -> None:
    server = launch(control, tmp_path, leaks=True).wait_ready()
    keep_alive(server)
    before = control.sites()
    server.stop()
    sites = [s for s in control.sites().values() if s.slot not in before or before[s.slot].calls < s.calls]
    assert {s.function for s in sites} & {"eventfd_write", "epoll_ctl"}
    faults = [Fault(site, how, False, keep_alive) for site in sites for how in hows(site)]
    tell(record_property, [(fault.name, try_end(control, tmp_path, fault)) for fault in chosen(faults, 4)], len(faults))
