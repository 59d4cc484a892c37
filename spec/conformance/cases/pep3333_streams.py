"""PEP 3333: wsgi.input and wsgi.errors."""

from __future__ import annotations

import json

from ..check import same
from ..client import request
from ..registry import case
from ..trial import Trial

LINES = b"one\r\ntwo\n\nfour"


def read(t: Trial, how: str, body: bytes | None = LINES) -> list[bytes]:
    """What a way of reading gives."""
    c = t.connect()
    c.get(t.target("pep3333_streams.read", how=how), method="POST", body=body)
    answer = c.response()
    same(answer.status, 200, f"the status, where the application reads ({how})")
    return [piece.encode("latin-1") for piece in json.loads(answer.body)]


@case("P6")
def input_read(t: Trial) -> None:
    """read(size) gives the body, and no more at a time than is asked for."""
    same(read(t, "sized"), [LINES], "the body")
    same(read(t, "small"), [b"on", LINES[2:]], "what is read")


@case("P6")
def input_read_nothing(t: Trial) -> None:
    """read(0), which is read(CONTENT_LENGTH) where that is 0, gives nothing, and takes nothing away."""
    same(read(t, "none"), [b"", LINES], "what is read")


@case("P6")
def input_large(t: Trial) -> None:
    """A body of a megabyte comes whole."""
    body = bytes(range(256)) * 4096
    same(b"".join(read(t, "sized", body)) == body, True, "whether the body is the same")


@case("P6")
def input_that_is_late(t: Trial) -> None:
    """A body that comes in two pieces, a while apart, is read as one."""
    c = t.connect()
    whole = request("POST", t.target("pep3333_streams.read", how="sized"), body=LINES)
    c.send(whole[:-5])
    t.server.control("events", t.key)  # a round trip: the first piece is on its way
    c.send(whole[-5:])
    answer = c.response()
    same(answer.status, 200, "the status")
    same(json.loads(answer.body), [LINES.decode()], "the body")


@case("P6")
def input_readline(t: Trial) -> None:
    """readline() gives a line at a time, with its end."""
    same(read(t, "line"), [b"one\r\n", b"two\n", b"\n"], "the lines")


@case("P6")
def input_readlines(t: Trial) -> None:
    """readlines(hint) gives a line or more, and what it has not given is still there."""
    first, *more = read(t, "lines")
    same((first, b"".join(more)), (b"one\r\n", b"two\n\nfour"), "the first line, and all else")


@case("P6")
def input_iterated(t: Trial) -> None:
    """Iteration of wsgi.input gives the lines."""
    same(read(t, "iterate"), [b"one\r\n", b"two\n", b"\n"], "the first three lines")


@case("P6")
def input_mixed(t: Trial) -> None:
    """Each way of reading goes on where another has stopped."""
    same(read(t, "mixed"), [b"one\r\n", b"tw", b"o\n", b"\nfour"], "what is read")


@case("P33")
def input_read_all(t: Trial) -> None:
    """read() without a size gives all the rest."""
    same(read(t, "all"), [LINES], "the body")


@case("P33")
def input_lines_to_the_end(t: Trial) -> None:
    """readlines() and iteration end with the body."""
    for how in ("all-lines", "hint", "iterate-all"):
        same(read(t, how), [b"one\r\n", b"two\n", b"\n", b"four"], f"the lines ({how})")


@case("P33")
def input_readline_sized(t: Trial) -> None:
    """readline(size) gives no more than that."""
    same(read(t, "line-sized"), [b"one", b"\r\n", b"two", b"\n", b"\n", b"fou", b"r"], "what is read")


@case("P33")
def input_ends(t: Trial) -> None:
    """Behind the body there is nothing but empty bytestrings, though the client sends another request."""
    c = t.connect()
    first = request("POST", t.target("pep3333_streams.read", how="beyond"), body=b"body")
    c.send(first + request("GET", "/"))
    answer = c.response()
    same(answer.status, 200, "the status, where the application reads beyond the end")
    found, *more = json.loads(answer.body)
    same((found, set(more)), ("body", {""}), "what is read, and what behind that")


@case("P33")
def input_without_a_body(t: Trial) -> None:
    """Who reads where there is no body gets nothing, and does not wait."""
    for how, body in (("beyond", None), ("all", None), ("all", b"")):
        same(set(read(t, how, body)), {b""}, "what is read")


@case("P7")
def errors_methods(t: Trial) -> None:
    """wsgi.errors has write, writelines and flush, which take text."""
    answer = t.get("pep3333_streams.complain")
    same((answer.status, answer.text), (200, "complained"), "the response")


@case("P7", needs=["log"])
def errors_are_found(t: Trial) -> None:
    """What is written to wsgi.errors is in the server's log."""
    t.get("pep3333_streams.complain")
    t.wait_log(f"{t.key} written", f"{t.key} one of several", f"{t.key} printed")


@case("P34")
def errors_in_any_language(t: Trial) -> None:
    """Text beyond ASCII and ISO-8859-1 raises nothing in wsgi.errors."""
    same(t.get("pep3333_streams.complain_abroad").text, "complained", "the response")
