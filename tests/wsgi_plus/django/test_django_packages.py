"""Views that wait on sites with other people's middleware, and with Sentry's SDK: the real packages.

Each site is in a process of its own (apps/django_packages.py), as some packages patch Django for good.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from byhand import BOUND
from harness.limits import ROOT

APP = ROOT / "tests" / "wsgi_plus" / "apps" / "django_packages.py"
README = ROOT / "py" / "README.md"

ALL = ["/slow", "/quick", "/slow#left", "/caught#fails", "/stream#fails", "/failing"]
HELD = "cannot be suspended: what waits inside of it holds a thread meanwhile"
FAILED = "Internal Server Error: /failing"

# What a view finds of what the middleware has left, before and after its waits.
FOUND = {
    "sentry": "",
    "sentry_alone": "",
    "sentry_others": "htmx True, history True, span True",
    "sentry_traced": "htmx True, history True, span True",
    "cors": "",
    "htmx": "htmx True",
    "whitenoise": "",
    "whitenoise_outside": "",
    "history": "history True",
    "telemetry": "span True",
    "silk": "silk",
    "toolbar": "",
}

# The rows of the table in py/README.md, and the site that each is tested by.
ROWS = {
    "sentry-sdk": "sentry",
    "django-cors-headers": "cors",
    "django-htmx": "htmx",
    "whitenoise": "whitenoise",
    "django-simple-history": "history",
    "opentelemetry-instrumentation-django": "telemetry",
    "django-silk": "silk",
    "django-debug-toolbar": "toolbar",
}


class Came:
    """What has come of some requests to a site."""

    def __init__(self, site, *targets):
        ran = subprocess.run(
            [sys.executable, APP, site, *targets], capture_output=True, text=True, timeout=6 * BOUND, check=False
        )
        assert ran.returncode == 0, ran.stderr
        found = json.loads(ran.stdout)
        self.answers = dict(zip(targets, found["answers"], strict=True))
        self.log, self.events, self.spans = found["log"], found["events"], found["spans"]
        self.errors = [event for event in self.events if event["kind"] == "error"]


@pytest.mark.parametrize("site", FOUND)
def test_views_are_suspended(site):
    """In each site, at each wait.  Failures reach the view and the stream.  Only the view's own error is logged."""
    came = Came(site, *ALL)
    slow, quick, left, caught, stream, failing = came.answers.values()
    if site != "sentry":  # whose cache has the second one
        assert (left["parked"], left["status"]) == (1, None)
    assert (slow["parked"], slow["status"], slow["body"]) == (2, 200, f"<body>slow: {FOUND[site]}</body>")
    assert (quick["parked"], quick["status"], quick["body"]) == (0, 200, f"<body>quick: {FOUND[site]}</body>")
    assert (caught["parked"], caught["body"]) == (1, "caught")
    assert (stream["parked"], stream["body"]) == (1, "acaughtb")
    assert (failing["parked"], failing["status"]) == (1, 500)
    assert came.log == [FAILED]


def test_each_row_of_the_table_is_tested():
    table = README.read_text().partition("| Middleware of |")[2].partition("\n\n")[0]
    packages = [row.split("|")[1].strip().strip("`") for row in table.splitlines()[2:]]
    assert sorted(packages) == sorted(ROWS) and set(ROWS.values()) <= set(FOUND)
    pinned = (ROOT / "tests" / "requirements.txt").read_text()
    assert [name for name in packages if f"\n{name}==" not in pinned] == []


@pytest.mark.parametrize("site", ["sentry", "sentry_alone", "sentry_others", "sentry_traced"])
def test_sentry_is_told_of_errors_only(site):
    came = Came(site, "/slow", "/slow", "/caught#fails", "/slow#left", "/stream", "/failing", "/quick")
    (event,) = came.errors
    assert (event["errors"], event["url"]) == (["ValueError"], "http://testserver/failing")
    assert (event["tag"], event["transaction"]) == ("kept", None)  # the latter is as the reference says


def test_sentrys_transactions_are_of_the_first_step():
    came = Came("sentry_traced", "/slow", "/quick")
    assert [event["transaction"] for event in came.events] == ["/slow", "/quick"]


def test_cors_headers():
    came = Came("cors", "/slow", "/quick", "/stream")
    assert {answer["headers"]["access-control-allow-origin"] for answer in came.answers.values()} == {"*"}


@pytest.mark.parametrize("site", ["whitenoise", "whitenoise_outside"])
def test_whitenoise_serves(site):
    answer = Came(site, "/static/site.css").answers["/static/site.css"]
    assert (answer["status"], answer["body"], answer["parked"]) == (200, "static", 0)
    assert "max-age" in answer["headers"]["Cache-Control"]


def test_spans_end_with_the_request():
    """Also those of a request whose client leaves."""
    spans = [(span["name"], span["status"]) for span in Came("telemetry", *ALL).spans]
    assert spans == [
        ("GET slow", 200),
        ("GET quick", 200),
        ("GET slow", 499),
        ("GET caught", 200),
        ("GET stream", 200),
        ("GET failing", 500),
    ]


def test_silk_holds_the_thread_of_what_it_records():
    came = Came("silk", "/slow?recorded#held", "/slow", "/silk/requests/")
    held, suspended, shown = came.answers.values()
    assert (held["parked"], held["waits"], held["body"]) == (0, 2, "<body>slow: silk</body>")
    assert suspended["parked"] == 2
    assert came.log == [f"silk.middleware.SilkyMiddleware {HELD}"]
    assert shown["status"] == 200 and "/slow" in shown["body"]


def test_the_toolbar_holds_the_thread_where_it_is_shown():
    came = Came("toolbar", "/slow?shown#held", "/slow", "/quick?shown")
    held, suspended, quick = came.answers.values()
    assert (held["parked"], held["waits"]) == (0, 2)
    for shown in (held, quick):
        assert shown["status"] == 200 and 'id="djDebug"' in shown["body"]
    assert (suspended["parked"], suspended["body"]) == (2, "<body>slow: </body>")
    assert came.log == [f"debug_toolbar.middleware.DebugToolbarMiddleware {HELD}"]


@pytest.mark.parametrize("site", ["rest_framework", "sentry_rest_framework"])
def test_rest_framework(site):
    """With its pages for browsers, and with what Sentry puts in the place of its methods."""
    came = Came(site, "/api", "/api#html", "/api?missing#html", "/api?error")
    plain, page, missing, error = came.answers.values()
    assert {answer["parked"] for answer in came.answers.values()} == {1}
    assert plain["body"] == '{"word":"answer"}'
    assert page["status"] == 200 and "<title>Slow" in page["body"] and "answer" in page["body"]
    assert missing["status"] == 404 and "<title>Slow" in missing["body"]
    assert error["status"] == 500
    assert [event["errors"] for event in came.errors] == ([["ValueError"]] if "sentry" in site else [])
