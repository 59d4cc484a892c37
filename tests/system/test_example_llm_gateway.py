"""examples/llm_gateway does what its README.md says, on Fermata and on wsgi_plus.simple_server."""

from __future__ import annotations

import ast
import itertools
import json
import re
import select
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from harness.client import Connection, Truncated
from harness.limits import LONG, QUIET, ROOT, eventually
from harness.server import Server, environment, virtualenv
from test_examples import Upstream

HERE = ROOT / "examples" / "llm_gateway"
README = (HERE / "README.md").read_text()
STORY = "Once upon a time there was a thread that waited for an answer and could do nothing else.".split()

Start = Callable[..., Server]


def told(pattern: str) -> list[str]:
    """The words of the one command in README.md that matches."""
    (line,) = [line.strip() for line in README.splitlines() if re.match(f"    {pattern}", line)]
    return shlex.split(line)


class Toy:
    """The toy model, in a process of its own, started as README.md says but on a free port."""

    def __init__(self) -> None:
        python, script, _ = told("python3 .*toy_model")
        assert python == "python3"
        self._process = subprocess.Popen(
            [sys.executable, script, "0"], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], LONG)[0]
        self.url = self._process.stdout.readline().split()[-1]
        self.port = int(self.url.rpartition(":")[2])
        self.since: dict[str, int] = {}

    def stats(self) -> dict[str, int]:
        """What it has counted in this test."""
        with Connection(("127.0.0.1", self.port)) as c:
            stats = json.loads(c.request("GET", "/stats").text)
        return {name: number - self.since.get(name, 0) for name, number in stats.items()}

    def wait(self, **wanted: int) -> None:
        """Until the toy has counted so many."""
        eventually(lambda: self.stats().items() >= wanted.items(), f"the toy counts {wanted}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def one_toy() -> Iterator[Toy]:
    with closing(Toy()) as toy:
        yield toy


@pytest.fixture
def toy(one_toy: Toy) -> Toy:
    one_toy.wait(open=0)
    one_toy.since = {}
    one_toy.since = one_toy.stats()
    return one_toy


@pytest.fixture(params=["fermata", "simple_server"])
def serve_by_command(request: pytest.FixtureRequest, serve: Start) -> Start:
    """Serves the gateway with the command of README.md for either server.  Servers alike are shared."""
    commands = {"fermata": "build/fermata .* app:app", "simple_server": "PYTHONPATH=py .venv/bin/python -m wsgi_plus"}

    def start(model: str, patience: float = LONG) -> Server:
        env = {"MODEL": model, "PATIENCE": str(patience)}
        program, *options, app = told(commands[request.param])
        if "=" not in program:
            options[options.index(".venv")] = virtualenv()
            return serve(app, *options, cwd=ROOT, env=env)
        name, _, value = program.partition("=")
        assert options.pop(0) == ".venv/bin/python"
        return serve(app, *options, cwd=ROOT, env={**env, name: value}, program=[sys.executable])

    return start


@pytest.fixture
def gateway(serve_by_command: Start, toy: Toy) -> Server:
    return serve_by_command(toy.url)


def generate(server: Server, prompt: str, **how: Any) -> Connection:
    """A connection on which a prompt has been sent, which no other is like."""
    return server.begin(f"/generate?prompt={prompt.replace(' ', '+')}+{next(numbers)}", timeout=LONG, **how)


numbers = itertools.count()


def events(text: str) -> list[tuple[str, Any]]:
    """The kind and the data of each event; no text is left over."""
    found = re.findall(r"(?:event: (\w+)\n)?data: (.*)\n\n", text)
    assert re.sub(r"(?:event: \w+\n)?data: .*\n\n", "", text) == ""
    return [(kind or "token", json.loads(data)) for kind, data in found]


def done(prompt: str, tokens: int) -> tuple[str, Any]:
    """The last event of an answer to that prompt, to which generate() adds a word."""
    return ("done", {"tokens": tokens, "prompt_tokens": len(prompt.split()) + 1, "completion_tokens": tokens})


def story(tokens: int) -> list[tuple[str, Any]]:
    return [("token", {"token": STORY[n % len(STORY)] + " "}) for n in range(tokens)]


# Answers


def test_get(gateway):
    prompt = "hello tokens=25 ms=1"
    with generate(gateway, prompt) as c:
        answer = c.read_response()
    assert answer.header("Content-Type") == "text/event-stream"
    assert events(answer.text) == [*story(25), done(prompt, 25)]
    assert answer.keeps_alive


def test_post(gateway):
    body = json.dumps({"prompt": "hëllo tokens=3 ms=1"}).encode()
    assert events(gateway.request("POST", "/generate", [], body).text) == [*story(3), done("tokens=3 ms=1", 3)]


def test_readme_shows_what_a_client_sees(gateway):
    shown = re.findall(r"```text\n(.*?)```", README, re.S)
    assert [gateway.get("/generate?prompt=tokens=2+ms=1").text] == [shown[0] + "\n"]
    assert gateway.get("/generate?prompt=tokens=2+ms=1+fail=1").text.endswith("\n\n" + shown[1] + "\n")


def test_a_token_arrives_when_it_is_said(gateway):
    with generate(gateway, "tokens=2 ms=1 hang=1") as c:
        assert events(next(c.iter_body(c.read_head())).decode()) == story(1)


def test_two_hundred_at_once(gateway, toy):
    """Of a second each, at the same time: they are all open at once."""
    prompt = "tokens=4 ms=500"
    with ExitStack() as stack:
        clients = [stack.enter_context(generate(gateway, prompt)) for _ in range(200)]
        toy.wait(open=200)
        answers = [c.read_response() for c in clients]
    assert [events(answer.text) for answer in answers] == [[*story(4), done(prompt, 4)]] * 200
    toy.wait(finished=200, cancelled=0, open=0)


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/", None, 404),
        ("GET", "/generate", None, 400),
        ("GET", "/generate?prompt=", None, 400),
        ("PUT", "/generate", b'{"prompt": "hello"}', 405),
        ("POST", "/generate", b"", 400),
        ("POST", "/generate", b"hello", 400),
        ("POST", "/generate", b'"hello"', 400),
        ("POST", "/generate", b'{"prompt": ""}', 400),
        ("POST", "/generate", b'{"prompt": 1}', 400),
        ("POST", "/generate", b'{"prom": "hello"}', 400),
        ("POST", "/generate", b'{"prompt": "\xff"}', 400),
        ("POST", "/generate", b'{"prompt": "\\ud800"}', 400),
        ("POST", "/generate", b"[" * 60_000, 400),
        ("POST", "/generate", b'{"prompt": "' + b"x" * 70_000 + b'"}', 413),
    ],
)
def test_refused(gateway, toy, method, target, body, status):
    answer = gateway.request(method, target, [], body)
    assert (answer.status, answer.header("Content-Type")) == (status, "text/plain; charset=utf-8")
    assert toy.stats()["requests"] == 0


# Failures


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_tries_again_while_the_model_is_busy(gateway, toy, status):
    prompt = f"tokens=1 ms=1 busy=3 status={status}"
    with generate(gateway, prompt) as c:
        assert events(c.read_response().text) == [*story(1), done(prompt, 1)]
    assert toy.stats()["requests"] == 4


@pytest.mark.parametrize(
    ("prompt", "status", "tries"),
    [
        ("busy=9", 503, 4),
        ("busy=9 status=429", 503, 4),
        ("busy=9 status=502", 502, 4),
        ("busy=9 status=500", 502, 1),
        ("busy=9 status=400", 502, 1),
        ("fail=0", 502, 4),
        ("tokens=0", 502, 1),
    ],
)
def test_gives_up(gateway, toy, prompt, status, tries):
    with generate(gateway, prompt) as c:
        assert c.read_response().status == status
    assert toy.stats()["requests"] == tries


def test_does_not_keep_a_client_waiting_for_long(gateway, toy):
    with generate(gateway, "busy=1 after=3600") as c:
        answer = c.read_response()
    assert (answer.status, answer.header("Retry-After")) == (503, "3600")
    assert toy.stats()["requests"] == 1


def test_waits_as_long_as_the_model_asks_for(gateway, toy):
    with generate(gateway, "tokens=1 ms=1 busy=1 after=1") as c:
        started = time.monotonic()
        assert c.read_response().status == 200
        assert time.monotonic() - started >= 1


def test_nobody_listens(serve_by_command):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        answer = serve_by_command(f"http://127.0.0.1:{silent.getsockname()[1]}").get("/generate?prompt=hello")
    assert answer.status == 502
    assert "the connection to the model failed" in answer.text


def test_late(serve_by_command, toy):
    """Before the first token it is a 504, later an event; the generation is cancelled."""
    server = serve_by_command(toy.url, patience=1.5)  # in which it has to come to the model
    answer = server.get("/generate?prompt=hang=0")
    assert (answer.status, answer.reason) == (504, "Gateway Timeout")
    toy.wait(cancelled=1, open=0)
    said = events(server.get("/generate?prompt=ms=1+hang=2").text)
    assert said == [*story(2), ("error", {"status": 504, "why": "the model kept silent for 1.5 s"})]
    toy.wait(cancelled=2, open=0)


def test_breaks_off_in_the_middle(gateway, toy):
    with generate(gateway, "tokens=5 ms=1 fail=3") as c:
        assert events(c.read_response().text)[:-1] == story(3)
    with generate(gateway, "tokens=5 ms=1 fail=5") as c:
        *tokens, (kind, data) = events(c.read_response().text)
    assert (tokens, kind, data["status"]) == (story(5), "error", 502)
    assert toy.stats()["requests"] == 2


def said(*choices: dict[str, Any], **more: Any) -> bytes:
    """An event as the API of OpenAI gives it."""
    about = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "toy", "choices": choices}
    return b"data: " + json.dumps({**about, **more}).encode() + b"\n\n"


TOKEN = said({"index": 0, "delta": {"content": "a"}, "finish_reason": None})
STOP = said({"index": 0, "delta": {}, "finish_reason": "stop"})
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answered",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        OK + b"\r\ndata: hello\n\n",
        OK + b'\r\ndata: {"answer": "a"}\n\n',
        OK + b'\r\ndata: ["a"]\n\n',
        OK + b'\r\ndata: {"error": {"message": "the model is mad"}}\n\n',
        CHUNKED + b"x\r\n",
        CHUNKED + b"-1\r\n\r\n",
    ],
    ids=lambda answered: answered[:70].decode("latin-1"),
)
def test_nonsense(serve_by_command, answered):
    """Is a 502, and the model is not asked again."""
    with closing(Upstream(answered)) as model:
        answer = serve_by_command(model.address).get("/generate?prompt=hello")
    assert (answer.status, len(model.heard)) == (502, 1)
    assert "nonsense" in answer.text


@pytest.mark.parametrize(
    "answered",
    [OK.replace(b"1.1", b"1.0") + b"\r\n" + TOKEN + STOP, CHUNKED + b"%x;x=y\r\n%b\r\n0\r\n\r\n"],
    ids=["close", "one chunk"],
)
def test_other_framings(serve_by_command, answered):
    """And a model that says nothing of what it has cost, nor the last line."""
    body = TOKEN + STOP
    with closing(Upstream(answered % (len(body), body) if b"%x" in answered else answered)) as model:
        answer = serve_by_command(model.address).get("/generate?prompt=hello")
    assert events(answer.text) == [("token", {"token": "a"}), ("done", {"tokens": 1})]


@pytest.mark.parametrize("way", ["close", "chunks"])
def test_an_answer_without_its_end(serve_by_command, way):
    """Is not complete, however orderly the response ends."""
    body = OK + b"\r\n" + TOKEN if way == "close" else CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(TOKEN), TOKEN)
    with closing(Upstream(body)) as model:
        answer = serve_by_command(model.address).get("/generate?prompt=hello")
    assert events(answer.text) == [
        ("token", {"token": "a"}),
        ("error", {"status": 502, "why": "the model broke off"}),
    ]


def test_what_the_model_is_asked(serve_by_command):
    """It is the SDK that asks: for a stream, and for what it has cost."""
    with socket.create_server(("127.0.0.1", 0)) as model:
        server = serve_by_command(f"http://127.0.0.1:{model.getsockname()[1]}")
        with server.connect(timeout=LONG) as c:
            c.send_request("GET", "/generate?prompt=hello", [("X-User", "ada")])
            peer, _ = model.accept()
            peer.settimeout(LONG)
            with peer, peer.makefile("rb") as file:
                head = b"".join(iter(file.readline, b"\r\n")).lower()
                (length,) = re.findall(rb"content-length: (\d+)", head)
                asked = json.loads(file.read(int(length)))
                peer.sendall(OK + b"\r\n" + TOKEN + STOP)
            assert events(c.read_response().text)[0] == ("token", {"token": "a"})
    assert head.startswith(b"post /v1/chat/completions http/1.1\r\n")
    assert b"openai" in head
    assert asked["messages"] == [{"role": "user", "content": "hello"}]
    assert (asked["stream"], asked["stream_options"], asked["user"]) == (True, {"include_usage": True}, "ada")


# What it costs


def usage(server: Server, user: str) -> Any:
    return json.loads(server.get("/usage").text).get(user)


def test_usage(gateway):
    """A user is charged for what the model says; for answers that ended early, for the tokens that came."""
    user = [("X-User", f"user-{next(numbers)}")]
    name = user[0][1]
    gateway.get("/generate?prompt=tokens=3+ms=1", user)
    gateway.get("/generate?prompt=tokens=5+ms=1+fail=2", user)
    gateway.get("/generate?prompt=tokens=5+ms=1+fail=0", user)
    gateway.get(f"/generate?prompt=tokens=4+ms=1+busy=1+{name}", user)
    wanted = {"answers": 2, "cut": 1, "prompt_tokens": 2 + 4, "completion_tokens": 3 + 2 + 4}
    assert usage(gateway, name) == wanted


def test_a_client_that_leaves_has_had_what_came(gateway, toy):
    name = f"user-{next(numbers)}"
    with gateway.connect() as c:
        c.send_request("GET", "/generate?prompt=ms=1+hang=3", [("X-User", name)])
        body = c.iter_body(c.read_head())
        seen = b""
        while seen.count(b"token") < 3:
            seen += next(body)
    toy.wait(cancelled=1, open=0)
    eventually(lambda: usage(gateway, name), "it is charged")
    assert usage(gateway, name) == {"answers": 0, "cut": 1, "prompt_tokens": 0, "completion_tokens": 3}


# Clients


@pytest.mark.parametrize("prompt", ["hang=0", "ms=1 hang=2", "tokens=1000000 ms=0"])
def test_a_client_that_leaves_takes_its_generation_along(gateway, toy, prompt):
    """Whether it waits for the first token or for another one."""
    clients = [generate(gateway, prompt) for _ in range(10)]
    toy.wait(open=10)
    if prompt != "hang=0":
        for c in clients:
            next(c.iter_body(c.read_head()))
    for c in clients:
        c.close()
    toy.wait(cancelled=10, open=0)
    assert "has failed" not in gateway.log()  # which is told a little later, and so by some of the ten, if by any


def test_a_slow_client_slows_the_model_down(gateway, toy):
    """Of 128 MiB only so much is asked for as the buffers on the way take."""
    with generate(gateway, "tokens=2048 ms=0 size=65536", receive_buffer=65536) as c:
        head = c.read_head()
        seen = [-1, 0]

        def still() -> bool:
            seen.append(toy.stats()["tokens"])
            time.sleep(QUIET)
            return seen[-1] > 0 and seen[-1] == seen[-2]

        eventually(still, "the model is not read any more", within=LONG)
        assert seen[-1] < 1024
        assert sum(map(len, c.iter_body(head))) > 2048 * 65536
    toy.wait(finished=1, open=0)


# In twenty lines


@pytest.fixture
def short(launch: Start, toy: Toy, tmp_path: Path) -> Server:
    _, *options, app = told("build/fermata .* twenty_lines:app")
    (tmp_path / "twenty_lines.py").write_text((HERE / "twenty_lines.py").read_text().replace("9000", str(toy.port)))
    options[options.index("--chdir") + 1] = str(tmp_path)
    return launch(app, *options, cwd=ROOT)


def test_they_are_twenty():
    """Of code, which needs nothing but the standard library."""
    text = (HERE / "twenty_lines.py").read_text()
    tree = ast.parse(text)
    doc = tree.body[0].end_lineno
    assert len([line for line in text.splitlines()[doc:] if line.strip()]) <= 20
    assert [node.names[0].name for node in tree.body if isinstance(node, ast.Import)] == ["asyncio", "threading"]
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


def test_twenty_lines(short, toy):
    with ExitStack() as stack:
        clients = [stack.enter_context(generate(short, "tokens=2 ms=500")) for _ in range(50)]
        toy.wait(open=50)
        whole = "".join(f'data: {{"token": "{word} "}}\n\n' for word in STORY[:2]) + "data: [DONE]\n\n"
        assert [c.read_response().text for c in clients] == [whole] * 50


def test_twenty_lines_and_failures(short, toy):
    for prompt in ("fail=0", "busy=1"):
        with generate(short, prompt) as c:
            assert c.read_response().status == 500
    with generate(short, "ms=1 fail=2") as c, pytest.raises((Truncated, ConnectionResetError)):
        c.read_response()
    for prompt in ("hang=0", "ms=1 hang=1"):
        with generate(short, prompt):
            toy.wait(open=1)
        toy.wait(open=0)
    assert toy.stats()["cancelled"] == 2


def test_the_commands_are_those_of_the_head_comments():
    for name, pattern in (("app", "build/fermata .* app:app"), ("twenty_lines", "build/fermata .* twenty_lines:app")):
        docstring = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text()), clean=False) or ""
        (line,) = [line for line in docstring.splitlines() if "build/fermata" in line]
        assert shlex.split(line) == told(pattern)
