"""A project may have a token.py or a logging.py: the server has its own modules of the standard library before it looks
into the project's directory."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from harness.client import build
from harness.limits import ROOT

APPLICATION = """
import sys  # nothing else: whatever it imported would be the project's own

Future = sys.modules["concurrent.futures"].Future
Timer = sys.modules["threading"].Timer
sleep = sys.modules["time"].sleep


def fails(value):
    return value + (1 + None) + value  # a line with ünïcode, and a part of it that is pointed at


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fails":
        fails(1)
    if path == "/late":
        sleep(2)
    if path == "/imports":
        for name in environ["QUERY_STRING"].split(","):
            __import__(name)
    if path == "/parks":
        future = Future()
        Timer(0.01, future.set_result, [None]).start()
        yield future
    if path == "/fails-later":
        future = Future()
        future.set_exception(LookupError("of a future"))
        yield future
    start_response("200 OK", [])
    yield b"served"
"""

# What the server imports, and what those import (on whichever Python), that a project might call its own modules.
NAMES = """__future__ ast atexit bisect collections concurrent contextlib contextvars copyreg enum functools heapq
    importlib inspect itertools keyword linecache logging operator os queue random re reprlib selectors signal site
    stat string struct textwrap threading time token tokenize traceback types typing unicodedata warnings
    weakref""".split()

ALL = sorted(sys.stdlib_module_names - set(sys.builtin_module_names) - {"antigravity", "this"})


def project(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / f"{name}.py").write_text(f"raise ImportError('the project\\'s own {name}')\n")
    (folder / "application.py").write_text(APPLICATION)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_project_with_a_module_of_that_name(launch, tmp_path, name):
    """It is served, errors are logged with their tracebacks, and it ends as any other."""
    server = launch("application", cwd=project(tmp_path, [name]))
    assert server.get("/").text == server.get("/parks").text == "served"
    assert server.get("/fails").status == 500
    server.wait_log(r"application\.py.*in fails[\s\S]*TypeError")
    server.stop()
    assert "the project's own" not in server.final_log


def test_project_with_all_of_them(launch, tmp_path):
    """Nothing that the server does later imports any module of the standard library that could be the project's."""
    cwd = project(tmp_path, ALL)
    server = launch("application", "--request-timeout", "1", "--threads", "2", cwd=cwd, admin=True)
    with server.connect() as c:
        assert c.request("GET", "/").text == c.request("GET", "/parks").text == "served"
        assert c.request("POST", "/parks", (), b"x" * 100_000).text == "served"
    for target, said in (("/fails", "TypeError"), ("/fails-later", "LookupError"), ("/imports?turtle", "ImportError")):
        assert server.get(target).status == 500
        server.wait_log(rf"\[ERROR\] Error handling request GET {target.partition('?')[0]} .*\n[\s\S]*{said}")
    with server.connect() as c:
        c.send(build("GET", "/late"))
        assert c.read_response().status == 504
    server.wait_stack(r"this is where its step is:[\s\S]*application\.py")
    assert re.search(r"fermata_requests_total\S* \d", server.admin.get("/metrics").text)
    server.stop()
    shadows = set(re.findall(r"the project's own (\w+)", server.final_log))
    assert shadows == {"turtle"}  # which the application has asked for


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def application(:", "SyntaxError"),
        ("1 + None", "TypeError"),
        ("import turtle", "ImportError: the project's own turtle"),
        ("raise SystemExit('ended')", "SystemExit"),
        ("value = 1", "neither 'application' nor 'app'"),
        ("def application(a): pass\n\napplication = 5", "cannot be called"),
    ],
)
def test_project_that_cannot_be_loaded(launch, tmp_path, text, said):
    """What is said about an application that fails is not about the server."""
    cwd = project(tmp_path, ALL)
    (cwd / "application.py").write_text(text)
    server = launch("application", cwd=cwd, ready=False, expect=3)
    assert server.wait_exit() == 3
    assert said in server.log()
    assert set(re.findall(r"the project's own (\w+)", server.log())) <= {"turtle"}


def test_factory_expression(launch, tmp_path):
    """The loader reads expressions with modules of its own, too."""
    cwd = project(tmp_path, ALL)
    (cwd / "shop.py").write_text("def make(*args, **kwargs):\n    from application import application\n    return application\n")
    assert launch("shop:make('a', size=[1])", cwd=cwd).get("/").text == "served"
    server = launch("shop:make(open('x'))", cwd=cwd, ready=False, expect=3)
    assert server.wait_exit() == 3
    assert "must be literals" in server.log()


def test_names_are_those_that_are_imported():
    """The list above has what the server's own table names."""
    source = (ROOT / "src" / "py" / "interp.c").read_text()
    table = re.search(r"names\[\] = \{([^}]*)\}", source)
    assert table
    own = {name.partition(".")[0] for name in re.findall(r'"(\w[\w.]*)"', table[1]) if not name.startswith("_")}
    assert own - set(sys.builtin_module_names) <= {*NAMES, "faulthandler"}
