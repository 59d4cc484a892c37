"""What a request has is its own, however many run at the same time: environ, body, id, context, answer."""

from __future__ import annotations

import os
import re
import socket
import threading

from harness.limits import LONG, SLOW, timeout

NUMBER = int(os.environ.get("FERMATA_OWN_REQUESTS") or 4000)
CLIENTS, AT_ONCE = 8, 10
ANSWER = re.compile(rb"\r\nX-Number: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\nown (\d+)")


def request(number: int) -> bytes:
    body = f"body of {number}.".encode() * 20 if number % 2 else b""
    return (
        f"{'POST' if number % 2 else 'GET'} /own/{number}?n={number} HTTP/1.1\r\nHost: localhost\r\n"
        f"User-Agent: client {number % 4}\r\nX-Number: {number}\r\nX-N{number}: {number}\r\n"
        + (f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n")
    ).encode() + body


def client(address: tuple[str, int], numbers: range, wrong: list[str]) -> None:
    """Several requests at once on each of its connections; every answer is the one to its request."""
    at_once = [numbers[i : i + AT_ONCE] for i in range(0, len(numbers), AT_ONCE)]
    with socket.create_connection(address, timeout=LONG) as s:
        for batch in at_once:
            s.sendall(b"".join(map(request, batch)))
            data = b""
            while len(found := ANSWER.findall(data)) < len(batch) or not data.endswith(f"own {batch[-1]}".encode()):
                got = s.recv(65536)
                if not got:
                    wrong.append(f"the server has closed: {data[-200:]!r}")
                    return
                data += got
            if found != [(str(n).encode(),) * 2 for n in batch]:
                wrong.append(f"{list(batch)} were answered {found}")


@timeout(60 + NUMBER / 200)
def test_each_has_what_is_its_own(launch):
    """Requests that carry their number in path, query, headers and body, on several threads, some of them resumed in
    other threads than they began in: none sees anything of another, and none gets the answer to another."""
    server = launch("own:app", "--threads", "4", "--request-timeout", str(20 * SLOW))
    wrong: list[str] = []
    share = NUMBER // CLIENTS
    clients = [
        threading.Thread(target=client, args=(server.address, range(i * share, (i + 1) * share), wrong), daemon=True)
        for i in range(CLIENTS)
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(LONG + NUMBER / 200)
    assert not any(thread.is_alive() for thread in clients), "a client hangs"
    assert not wrong, (len(wrong), wrong[:5])
    report = server.call("own.report")
    assert not report["wrong"], report
    assert report["served"] == share * CLIENTS and report["open"] == 0, report
    assert len(report["threads"]) > 1, report
