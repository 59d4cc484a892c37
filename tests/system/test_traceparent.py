"""The trace of a request, as traceparent says it: in environ as it came, in the access log its id."""

from __future__ import annotations

import contextlib
import json
import re

import jsonschema
import pytest
from harness.client import build
from harness.limits import LONG, ROOT, eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
SCHEMA = json.loads((ROOT / "spec/status.schema.json").read_text())
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


def test_status_pages(launch):
    """The oldest and the slowest requests are shown with theirs; one that has none, or no good one, without."""
    server = launch("places", "--threads", "2", admin=True)
    told = {"/deep/good": GOOD, "/deep/bad": GOOD.replace("00-", "ff-", 1), "/deep/none": ""}
    with contextlib.ExitStack() as stack:
        held = []
        for path, sent in told.items():
            held.append(stack.enter_context(server.connect(timeout=LONG)))
            held[-1].send(build("GET", path, [("traceparent", sent)] if sent else []))
        server.admin.wait_in_flight("parked_future", 3, within=LONG)
        for page, key in (("/requests.json", "requests"), ("/status.json", "requests")):
            rows = {row["path"]: row.get("trace") for row in json.loads(server.admin.get(page).text)[key]}
            assert rows == {"/deep/good": TRACE, "/deep/bad": None, "/deep/none": None}
        assert re.search(rf"GET /deep/good  trace {TRACE}\n", server.admin.get("/status.txt").text)
        assert re.search(r"GET /deep/bad\n", server.admin.get("/status.txt").text)
        assert server.admin.get("/").text.count(f"<code>{TRACE}</code>") == 1
        assert server.get("/go", timeout=LONG).status == 200
        assert [c.read_response().status for c in held] == [200] * 3
    server.admin.wait_in_flight("parked_future", 0)

    def slowest():
        told = json.loads(server.admin.get("/status.json").text)
        jsonschema.Draft202012Validator(SCHEMA).validate(told)
        rows = {row["path"]: row.get("trace") for row in told["slowest"]}
        return rows if len([path for path in rows if path.startswith("/deep")]) == 3 else None

    rows = eventually(slowest, "all three are over", within=LONG)
    assert (rows["/deep/good"], rows["/deep/bad"], rows["/deep/none"]) == (TRACE, None, None)
    assert f"GET /deep/good  trace {TRACE}\n" in server.admin.get("/status.txt").text
    assert TRACE in server.admin.get("/").text
