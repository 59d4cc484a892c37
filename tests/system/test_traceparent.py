"""The trace of a request, as traceparent says it: in environ as it came, in the access log its id."""

from __future__ import annotations

import json

import pytest
from harness.client import build
from harness.limits import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
GOOD = f"00-{TRACE}-b7ad6b7169203331-01"


def lines_of(path, n: int) -> list[str]:
    return eventually(lambda: path.read_text().count("\n") == n and path.read_text().splitlines(), f"{n} lines")


@pytest.mark.parametrize("sent", [GOOD, GOOD.upper(), "", "no trace"])
def test_environ(serve, sent):
    """The application's tracer judges for itself."""
    environ = json.loads(serve("basic").get("/seen", [("Traceparent", sent), ("tracestate", "a=b")]).body)
    assert (environ["HTTP_TRACEPARENT"], environ["HTTP_TRACESTATE"]) == (sent, "a=b")


def test_access_log(launch, tmp_path):
    """One good field has its id in the line; none, a bad one or two of them have not, on one connection too."""
    for json_lines in (False, True):
        path = tmp_path / f"access{json_lines}.log"
        form = ["--access-log-json"] if json_lines else ["--access-logformat", "%(trace_id)s %(U)s %(s)s"]
        server = launch("basic", "--access-logfile", str(path), "--body-timeout", "0.3", *form)
        with server.connect() as c:
            c.request("GET", "/seen", [("TRACEPARENT", GOOD)])
            c.request("GET", "/seen")
            c.request("GET", "/seen", [("traceparent", GOOD.replace("00-", "ff-", 1))])
            c.request("GET", "/seen", [("traceparent", GOOD), ("traceparent", GOOD)])
            c.request("GET", "/seen", [("traceparent", f"  {GOOD}\t")])
        with server.connect() as c:  # refused when its head is whole
            c.send(build("POST", "/b", [("Content-Length", "2"), ("traceparent", GOOD)]))
            assert c.read_response().status == 408
        rows = lines_of(path, 6)
        if json_lines:
            found = [(row["trace_id"] or "-", row["path"], row["status"]) for row in map(json.loads, rows)]
        else:
            found = [(trace, where, int(status)) for trace, where, status in map(str.split, rows)]
        assert found == [
            (TRACE, "/seen", 200),
            ("-", "/seen", 200),
            ("-", "/seen", 200),
            ("-", "/seen", 200),
            (TRACE, "/seen", 200),
            (TRACE, "/b", 408),
        ]
