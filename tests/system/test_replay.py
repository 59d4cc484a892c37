"""Replays the streams of tests/http (its README.md says how a file reads) through the server: what the parser is shown to
accept and refuse alone holds on sockets too, in any pieces, and nothing behind a refusal reaches the application."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness.client import NoResponse
from harness.limits import LONG, ROOT

FOLDER = ROOT / "tests" / "http"
OPTIONS = {
    "request_line": "--limit-request-line",
    "fields": "--limit-request-fields",
    "field_size": "--limit-request-field_size",
    "body": "--limit-request-body",
}
SMALL = 3000  # a stream beyond it is not sent byte by byte


@dataclass
class Case:
    stream: bytes
    rfc: str = ""
    about: str = ""
    limits: dict[str, str] = field(
        default_factory=lambda: {"request_line": "8190", "fields": "100", "field_size": "8190", "body": "1048576"}
    )
    status: int = 0
    slug: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)


def load(path: Path) -> Case:
    about, _, stream = path.read_bytes().partition(b"\n---\n")
    case = Case(stream)
    for line in about.decode("latin-1").split("\n"):
        key, _, value = line.partition(": ")
        key = key.removesuffix(":")
        if key == "limits":
            case.limits |= dict(pair.split("=") for pair in value.split())
        elif key == "status":
            case.status = int(value)
        elif key == "slug":
            case.slug = value
        elif key == "request":
            case.requests.append({"request": value})
        elif key == "rfc":
            case.rfc = value
        elif key == "about":
            case.about = value
        else:
            case.requests[-1][key] = value
    return case


CASES = {f"{path.parent.name}/{path.stem}": load(path) for path in sorted(FOLDER.glob("*valid/*.http"))}


def test_there_are_cases():
    """As many as were promised, and each says what it is about and which section of which RFC decides it."""
    assert len(CASES) >= 250
    for name, case in CASES.items():
        assert re.fullmatch(r"\d{4} ([1-9]\d*|[A-Z])(\.\d+)*", case.rfc), name
        assert case.about, name
        assert bool(case.status) == name.startswith("invalid/"), name


def test_there_are_smuggling_pairs():
    """A request that another reader of the stream would find is hidden in each, and is none that test_replay expects."""
    pairs = {name: case for name, case in CASES.items() if "/smuggle-" in name}
    assert len(pairs) >= 40
    for name, case in pairs.items():
        assert b"GET /hidden " in case.stream, name
        assert not any("/hidden" in request["request"] for request in case.requests), name


def pieces(data: bytes, how: str) -> list[bytes]:
    if how == "whole":
        return [data]
    if how == "bytes":
        return [data[i : i + 1] for i in range(len(data))]
    return re.findall(rb"(?s).*?\r\n|.+?$", data)


@pytest.mark.parametrize("how", ["whole", "lines", "bytes"])
@pytest.mark.parametrize("name", CASES)
def test_replay(serve, name, how):
    """The requests of the stream reach the application, each as it is described; then the refusal, with its status and
    its reason in the metrics, once; then the end."""
    case = CASES[name]
    if len(case.stream) > SMALL:
        how = "whole" if how == "bytes" else how
    limits = [word for limit, value in case.limits.items() for word in (OPTIONS[limit], value)]
    server = serve("replay", "--log-level", "debug", *limits, admin=True)
    before = server.admin.metrics()
    server.call("probe.clear", "requests")
    with server.connect(timeout=LONG) as c:
        c.send_pieces(pieces(case.stream, how), pause=0)
        for request in case.requests:
            answer = c.read_response(request["request"].split()[0])
            assert answer.status == 200
            assert answer.keeps_alive == (request.get("persist", "keep-alive") == "keep-alive")
        if case.status:
            answer = c.read_response()
            assert answer.status == case.status
            assert answer.header("Connection") == "close"
            c.ended()
        elif not case.requests or answer.keeps_alive:
            c.half_close()
            with pytest.raises(NoResponse):
                c.read_response()
        else:
            c.ended()
    seen = server.call("probe.events", "requests")
    assert not any("/hidden" in environ["REQUEST_URI"] for _, (environ, _) in seen)  # smuggled in
    assert len(seen) == len(case.requests)
    for request, (method, (environ, body)) in zip(case.requests, seen):
        check(request, method, environ, body)
    after = server.admin.metrics()
    counted = {
        reason: after.get("fermata_refused_requests_total", reason=reason)
        - before.get("fermata_refused_requests_total", reason=reason)
        for reason in after.labels("fermata_refused_requests_total", "reason")
    }
    assert {reason: n for reason, n in counted.items() if n} == ({case.slug: 1} if case.status else {})


def check(request: dict[str, str], method: str, environ: dict[str, str], body: str) -> None:
    assert f"{method} {environ['REQUEST_URI']}" == request["request"]
    if "body" in request:
        assert body == request["body"]
    else:
        assert len(body) == int(request.get("length", 0))
    if "query" in request:
        assert environ["QUERY_STRING"] == request["query"]
    if request.get("host"):
        assert environ["HTTP_HOST"] == request["host"]
    if "field" in request:
        name, _, value = request["field"].partition(":")
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        assert environ[key].startswith(value.strip())
