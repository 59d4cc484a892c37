"""PEP 3333: environ."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, unquote_to_bytes

from ..check import holds, never, same
from ..client import Answer, Connection, request
from ..registry import case
from ..trial import Trial

CGI = re.compile(
    r"AUTH_TYPE|CONTENT_LENGTH|CONTENT_TYPE|GATEWAY_INTERFACE|HTTP_\w+|PATH_INFO|PATH_TRANSLATED|QUERY_STRING|REMOTE_\w+"
    r"|REQUEST_METHOD|SCRIPT_NAME|SERVER_NAME|SERVER_PORT|SERVER_PROTOCOL|SERVER_SOFTWARE"
)
FLAGS = ("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once")


class Environ:
    """What the application has been given."""

    def __init__(self, answer: Answer) -> None:
        same(answer.status, 200, "the status")
        said = json.loads(answer.body)
        self.type: str = said["type"]
        self.values: dict[str, tuple[str, str]] = said["values"]

    def text(self, key: str) -> str:
        """A value that is text; an empty one may be left out."""
        kind, value = self.values.get(key, ("str", ""))
        same(kind, "str", f"the type of {key}")
        return value


def ask(
    t: Trial, *lines: str, path: str = "", query: str = "", version: str = "HTTP/1.1", body: bytes | None = None
) -> Answer:
    """The answer of the application, which lists its environ, to a request with these header lines."""
    headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    target = t.target("pep3333_environ.facts").replace("?", f"{path}?", 1) + query
    with Connection(t.server.address) as c:
        c.send(request("GET" if body is None else "POST", target, headers=headers, body=body, version=version))
        return c.response()


def flags(t: Trial) -> dict[str, bool]:
    answer = t.get("pep3333_environ.flags")
    same(answer.status, 200, "the status")
    found: dict[str, bool] = json.loads(answer.body)
    return found


@case("P1")
def environ_is_a_dict(t: Trial) -> None:
    """environ is a dict, and no subclass of it."""
    same(Environ(ask(t)).type, "dict", "the type of environ")


@case("P1")
def cgi_variables(t: Trial) -> None:
    """The CGI variables say what was asked for, and are text, all of them."""
    found = Environ(ask(t, query="&a=%20b+c"))
    wrong = [key for key, (kind, _) in found.values.items() if CGI.fullmatch(key) and kind != "str"]
    same(wrong, [], "the CGI variables that are no str")
    same(found.text("REQUEST_METHOD"), "GET", "REQUEST_METHOD")
    same(found.text("QUERY_STRING"), f"key={t.key}&a=%20b+c", "QUERY_STRING, which is as the client has sent it")
    same(found.text("SCRIPT_NAME") + found.text("PATH_INFO"), "/pep3333_environ/facts", "SCRIPT_NAME and PATH_INFO")
    holds(found.text("SERVER_NAME"), "SERVER_NAME is there, and is not empty")
    holds(found.text("SERVER_PORT").isdigit(), "SERVER_PORT is there, and is a number")


@case("P1")
def protocol_of_the_request(t: Trial) -> None:
    """SERVER_PROTOCOL is the version with which the client has sent the request."""
    same(Environ(ask(t)).text("SERVER_PROTOCOL"), "HTTP/1.1", "SERVER_PROTOCOL")
    same(Environ(ask(t, version="HTTP/1.0")).text("SERVER_PROTOCOL"), "HTTP/1.0", "SERVER_PROTOCOL")


@case("P1")
def url_can_be_put_together(t: Trial) -> None:
    """The URL that the PEP's algorithm gives is the one that was asked for."""
    found = Environ(ask(t, path="/a%20b", query="&c=d"))
    host = found.text("HTTP_HOST") or f"{found.text('SERVER_NAME')}:{found.text('SERVER_PORT')}"
    path = quote((found.text("SCRIPT_NAME") + found.text("PATH_INFO")).encode("latin-1"))
    url = f"{found.text('wsgi.url_scheme')}://{host}{path}?{found.text('QUERY_STRING')}"
    same(url, f"http://conformance/pep3333_environ/facts/a%20b?key={t.key}&c=d", "the URL")


@case("P2")
def wsgi_variables(t: Trial) -> None:
    """wsgi.version is (1, 0), wsgi.url_scheme is http, and the two streams and the three flags are there."""
    found = Environ(ask(t)).values
    same(found.get("wsgi.version"), ["tuple", "(1, 0)"], "wsgi.version")
    same(found.get("wsgi.url_scheme"), ["str", "http"], "wsgi.url_scheme")
    wanted = {"wsgi.input", "wsgi.errors", *FLAGS}
    same(wanted - found.keys(), set[str](), "what is missing")


@case("P3")
def path_is_decoded_once(t: Trial) -> None:
    """PATH_INFO has the bytes that the path stands for, each as one character."""
    sent = "/caf%C3%A9+%E2%82%AC%2541%20"
    wanted = unquote_to_bytes(sent).decode("latin-1")
    found = Environ(ask(t, path=sent))
    same((found.text("SCRIPT_NAME") + found.text("PATH_INFO")), f"/pep3333_environ/facts{wanted}", "the path")


@case("P1")
def query_is_not_decoded(t: Trial) -> None:
    """QUERY_STRING keeps its percent signs."""
    found = Environ(ask(t, query="&q=%C3%A9%26+%41"))
    same(found.text("QUERY_STRING"), f"key={t.key}&q=%C3%A9%26+%41", "QUERY_STRING")


@case("P3")
def bytes_in_a_header_field(t: Trial) -> None:
    """Bytes above 127 of a header field are characters below 256, unless the server refuses such a request."""
    answer = ask(t, "X-Bytes: caf\xc3\xa9")
    if not 400 <= answer.status < 500:
        same(Environ(answer).text("HTTP_X_BYTES"), "caf\xc3\xa9", "HTTP_X_BYTES")


@case("P3")
def characters_below_256(t: Trial) -> None:
    """No text in environ has a character that ISO-8859-1 does not have."""
    found = Environ(ask(t, "X-A: b", path="/%E2%82%AC%FF"))
    wrong = [key for key, (kind, value) in found.values.items() if kind == "str" and max(value, default="") > "\xff"]
    same(wrong, [], "the variables with other characters")


@case("P4")
def header_fields_in_environ(t: Trial) -> None:
    """A header field is HTTP_ and its name, and one that was not sent is not there."""
    found = Environ(ask(t, "X-One: 1", "x-lower-case: some words", "Accept: text/html;q=0.5"))
    same(found.text("HTTP_X_ONE"), "1", "HTTP_X_ONE")
    same(found.text("HTTP_X_LOWER_CASE"), "some words", "HTTP_X_LOWER_CASE")
    same(found.text("HTTP_ACCEPT"), "text/html;q=0.5", "HTTP_ACCEPT")
    same(found.text("HTTP_HOST"), "conformance", "HTTP_HOST")
    without = Environ(ask(t))
    same({"HTTP_X_ONE", "HTTP_X_LOWER_CASE", "HTTP_ACCEPT"} & without.values.keys(), set[str](), "what is not sent")
    same(
        [without.text("CONTENT_TYPE"), without.text("CONTENT_LENGTH").strip("0")],
        ["", ""],
        "type and length of no body",
    )


@case("P4")
def content_fields_in_environ(t: Trial) -> None:
    """CONTENT_TYPE and CONTENT_LENGTH are what the client says of the body."""
    found = Environ(ask(t, "Content-Type: text/x-own; charset=x", body=b"12345"))
    same(found.text("REQUEST_METHOD"), "POST", "REQUEST_METHOD")
    same(found.text("CONTENT_TYPE"), "text/x-own; charset=x", "CONTENT_TYPE")
    same(found.text("CONTENT_LENGTH"), "5", "CONTENT_LENGTH")


@case("P4")
def repeated_header_field(t: Trial) -> None:
    """A field that comes twice is one variable, with both values in their order."""
    found = Environ(ask(t, "X-Twice: one", "X-Between: 1", "X-Twice: two"))
    same(re.split(r", *", found.text("HTTP_X_TWICE")), ["one", "two"], "HTTP_X_TWICE")


@case("P5")
def environ_may_be_changed(t: Trial) -> None:
    """An application that empties environ and fills it with something else is served as it should be."""
    answer = t.get("pep3333_environ.used_up")
    same(answer.status, 200, "the status")
    same((answer.body, answer.complete), (b"used up", True), "the body")


@case("P5")
def method_and_protocol_are_kept(t: Trial) -> None:
    """An application that says in environ that HEAD is GET, or HTTP/1.0 HTTP/1.1, is answered as was asked for."""
    answered_as_asked(t, park=False)


def answered_as_asked(t: Trial, *, park: bool) -> None:
    """An application changes the method and the protocol in environ, and parks or not; then it gives a body."""
    for method, version, said in (
        ("HEAD", "HTTP/1.1", {"method": "GET"}),
        ("GET", "HTTP/1.1", {"method": "HEAD"}),
        ("GET", "HTTP/1.0", {"protocol": "HTTP/1.1"}),
        ("GET", "HTTP/1.1", {"protocol": "HTTP/1.0"}),
    ):
        key = f"{t.key} {method} {version} {said}"
        query = {**said, "park": 1} if park else said
        c = t.connect()
        c.send(request(method, t.target("pep3333_environ.pretends", key, **query), version=version, close=True))
        if park:
            t.wait_for("parking", key=key)
            t.complete(key)
        what = f"for {method} in {version} where environ says {said}"
        if method == "HEAD":
            head = c.head()
            same(head and head.status, 200, f"the status {what}")
            same(c.rest(), b"", f"what follows the headers {what}")
        else:
            answer = c.response()
            same((answer.body, answer.complete), (b"as ever", True), f"the body {what}")
            holds(version != "HTTP/1.0" or answer.framing != "chunked", f"it is not chunked {what}")


@case("P5")
def next_environ_is_new(t: Trial) -> None:
    """What an application does to environ the next request does not see, on the same connection or on another."""
    c = t.begin("pep3333_environ.used_up")
    c.response()
    c.get(t.target("pep3333_environ.facts"))
    following = c.response_if_any()  # the server may have closed
    for answer in (following, ask(t)):
        if answer is not None:
            found = Environ(answer)
            holds("conformance.mine" not in found.values, "a variable of an earlier request is gone")
            same(found.text("REQUEST_METHOD"), "GET", "REQUEST_METHOD")
            same(found.text("SERVER_PROTOCOL"), "HTTP/1.1", "SERVER_PROTOCOL")


@case("P43")
def only_if_multithread(t: Trial) -> None:
    """Where wsgi.multithread is false, no other request is called while one is in the application."""
    t.defer(t.control, "open_gate", t.key)
    first = t.begin("pep3333_environ.held")
    t.wait_for("entered")
    second = t.begin("pep3333_environ.held")
    if not t.details("entered")[0]:
        never(lambda: len(t.details("entered")) > 1, "two requests are in the application")
    t.control("open_gate", t.key)
    same([first.response().text, second.response().text], ["held", "held"], "the responses")


@case("P43")
def run_once_is_false(t: Trial) -> None:
    """A server that has called the application before, and does again, does not say that it calls it once."""
    for _ in range(2):
        same(flags(t).get("wsgi.run_once"), False, "wsgi.run_once")


@case("P43", threads=1)
def one_thread_is_not_many(t: Trial) -> None:
    """With one thread wsgi.multithread is false."""
    same(flags(t).get("wsgi.multithread"), False, "wsgi.multithread")
