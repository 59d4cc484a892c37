"""The command of the conformance suite, and what its README.md says of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conformance import __main__ as command
from conformance.check import LONG
from conformance.launcher import PLACEHOLDERS, CannotStart, Settings
from conformance.pep3333 import RULES
from conformance.registry import SPEC, all_cases, requirements
from conformance.report import document
from conformance.runner import FAIL, PASS, SKIP, Result
from conformance.servers import KNOWN
from conformance_parts import EXCEPT, HERE, README
from harness.limits import ROOT, fermata
from harness.server import Server as Launched


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of --server, --url and --known is needed"),
        (("--known", "fermata", "--url", "http://127.0.0.1:1/"), "one of --server, --url and --known is needed"),
        (("--known", "nginx"), "--known: one of fermata"),
        (("--server", "server --port 8000"), "--server: {port} is missing"),
        (("--server", "server {port} {prt}"), "--server: {prt} is not known: {host}, {port}"),
        (("--server", "server {port"), "--server: "),
        (("--server", "server '{port}"), "--server: "),
        (("--known", "fermata", "--deadline", "--timeout"), "--deadline: {seconds} is missing"),
        (("--known", "fermata", "--deadline=--timeout 5"), "--deadline: {seconds} is missing"),
        (("--known", "fermata", "--deadline"), "--deadline: expected one argument"),
        (("--known", "fermata", "--body-limit=--limit {n}"), "--body-limit: {n} is not known: {bytes}"),
        (("--known", "fermata", "--half-close=--half {n}"), "--half-close: {n} is not known"),
        (("--known", "fermata", "--parked", "count {prot}"), "--parked: {prot} is not known"),
        (("--known", "fermata", "--helper", "module"), "--helper: MODULE:NAME"),
        (("--known", "fermata", "--middleware", "a:b:c"), "--middleware: MODULE:NAME"),
        (("--known", "fermata", "--control", "127.0.0.1:1"), "--control: only with --url"),
        (("--known", "fermata", "--jobs", "0"), "--jobs: at least 1"),
        (("--known", "fermata", "--only", "S1.1", "--only", "S99"), "--only: no case for S99"),
        (("--known", "fermata", "--json", "/nowhere/at/all.json"), "--json: /nowhere/at is no directory"),
        (("--url", "https://127.0.0.1/"), "--url: http://HOST:PORT/"),
        (("--url", "http://127.0.0.1:1/app"), "--url: http://HOST:PORT/"),
        (("--url", "http://127.0.0.1:100000/"), "--url: http://HOST:PORT/"),
        (("--url", "127.0.0.1:80"), "--url: http://HOST:PORT/"),
    ],
)
def test_wrong_usage(conformance: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    """Exits 2 and names the option."""
    code, out, err = conformance(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_no_server(conformance: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for arguments in (("--url", f"http://127.0.0.1:{port}/"), ("--server", "no-such-program {port}")):
        code, out, err = conformance(*arguments, "--only", "P1")
        assert (code, out) == (2, "")
        assert "there is no server" in err


def test_known_server_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KNOWN, "gunicorn", type(KNOWN["gunicorn"])("gunicorn", "/no/gunicorn {port}", ("false",), {}))
    with pytest.raises(CannotStart, match="/no/gunicorn is not there"):
        KNOWN["gunicorn"].settings()


def test_exit_code_is_about_musts(conformance: Callable[..., Any], fake: Settings) -> None:
    """The skeleton of a server fails everything: 1, but 0 where it is asked for nothing but SHOULDs."""
    code, out, _ = conformance("--server", fake.server, "--only", "environ-is-a-dict", "-v")
    assert code == 1
    assert "fail           environ-is-a-dict" in out
    assert re.search(r"^P1     MUST   FAIL           environ-is-a-dict$", out, re.M)
    code, out, _ = conformance("--server", fake.server, "--only", "P34")
    assert code == 0
    assert re.search(r"^P34    SHOULD FAIL           errors-in-any-language$", out, re.M)


def test_list(conformance: Callable[..., Any]) -> None:
    """A line a case: its name, its requirements and what it shows; --only chooses."""
    code, out, _ = conformance("--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [found.name for found in all_cases()]
    _, out, _ = conformance("--list", "--only", "P8", "--only", "environ-is-a-dict")
    assert [line.split()[0] for line in out.splitlines()] == [
        found.name for found in all_cases() if "P8" in found.requirements or found.name == "environ-is-a-dict"
    ]
    assert "environ is a dict, and no subclass of it." in out


def test_only_by_part(conformance: Callable[..., Any]) -> None:
    listed = {line.split()[0] for line in conformance("--list", "--only", "S5")[1].splitlines()}
    wanted = {found.name for found in all_cases() if any(number.startswith("S5.") for number in found.requirements)}
    assert listed == wanted


def test_script() -> None:
    """scripts/conformance works in any directory."""
    done = subprocess.run(
        [ROOT / "scripts" / "conformance", "--list", "--only", "environ-is-a-dict"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG * 4,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("environ-is-a-dict ")


@contextmanager
def running(**env: str) -> Iterator[str]:
    """The URL of a server with the applications of the suite, which the suite has not started."""
    paths = f"{HERE / 'apps'},{ROOT / 'py'}"
    server = Launched("conformance_app:application", "--pythonpath", paths, env=env)
    try:
        yield f"http://127.0.0.1:{server.wait_ready().port}/"
    finally:
        server.stop()


def test_server_that_runs_already(conformance: Callable[..., Any], tmp_path: Path) -> None:
    """With its control address it is examined as any other, as far as that goes without settings and signals."""
    control = str(tmp_path / "control")
    record = tmp_path / "found.json"
    names = ["failure-ends-who-does-not-look", "environ-is-a-dict", "one-thread-is-not-many", "errors-are-found"]
    only = [word for name in names for word in ("--only", name)]
    with running(CONFORMANCE_CONTROL=control) as url:
        code, out, err = conformance("--url", url, "--control", control, *only, "--json", str(record))
    assert code == 0, out + err
    said = json.loads(record.read_text())
    assert said["server"] == url
    assert {found["name"]: (found["result"], found["detail"]) for found in said["cases"]} == {
        "failure-ends-who-does-not-look": (PASS, ""),
        "environ-is-a-dict": (PASS, ""),
        "one-thread-is-not-many": (SKIP, "needs a server of its own: use --server"),
        "errors-are-found": (SKIP, "needs --log, or a server that the suite has started: use --server"),
    }


def test_server_that_runs_already_without_control(conformance: Callable[..., Any], tmp_path: Path) -> None:
    """Then only what responses show is examined; nothing fails for that, and nothing is left that waits."""
    record = tmp_path / "found.json"
    rules = [word for rule in RULES for word in ("--only", rule)]
    with running() as url:
        conformance("--url", url, *rules, "--json", str(record))
    found = {case["name"]: (case["result"], case["detail"]) for case in json.loads(record.read_text())["cases"]}
    assert found["environ-is-a-dict"] == found["empty-blocks"] == (PASS, "")
    assert found["close-at-the-end"] == found["block-is-not-held-back"] == (SKIP, "needs --control")
    wrong = {name: why for name, why in found.items() if why[0] == FAIL and name not in EXCEPT["fermata"]}
    assert wrong == {}


def test_json_is_as_the_readme_has_it() -> None:
    found = re.search(r"```json\n(.*?)```", README.read_text(), re.S)
    assert found is not None
    example = json.loads(found[1])
    made = document([Result("a-case", ("S1.1", "P1"), PASS)], server="s", version="1")
    assert made.keys() == example.keys()
    assert made["summary"].keys() == example["summary"].keys()
    assert made["summary"]["WSGI+"].keys() == example["summary"]["WSGI+"].keys()
    assert made["requirements"]["S1.1"] == example["requirements"]["S1.1"]
    assert made["cases"][0].keys() == example["cases"][0].keys()


def test_commands_of_the_readme_are_right() -> None:
    """Their options are there, and what they name as well."""
    text = README.read_text().replace("\\\n", " ")
    lines = re.findall(r"(?:^ {4}|`|\$ )scripts/conformance ([^`\n]*)", text, re.M)
    assert len(lines) >= 10
    for line in lines:
        options = command.parser().parse_args(command.joined(shlex.split(line)))
        for name in PLACEHOLDERS:
            value = getattr(options, name)
            assert value is None or command.wrong(name, value) == "", line
        command.chosen(all_cases(), options.only)
        assert options.known is None or options.known in KNOWN
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if not (HERE / link).exists()] == []


def test_output_in_the_readme_is_of_cases_that_there_are() -> None:
    text = README.read_text()
    rows = re.findall(r"^ {4}([SP][\d.]+) +(MUST|SHOULD|MAY) +(?:pass|FAIL) +(.+)$", text, re.M)
    levels = {requirement.number: requirement.level for requirement in requirements()}
    assert len(rows) >= 3
    for number, said, names in rows:
        assert levels[number] == said
        assert names.split(", ") == [found.name for found in all_cases() if number in found.requirements]


def test_example_of_the_readme_runs(tmp_path: Path) -> None:
    """What it says of writing a case is true: the case passes on Fermata."""
    copy = tmp_path / "conformance"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns(".mypy_cache", "__pycache__"))
    shutil.copy(SPEC, tmp_path)
    files = re.findall(r"```python\n# ((?:apps|cases)/\w+\.py)\n(.*?)```", README.read_text(), re.S)
    assert len(files) == 2
    for path, code in files:
        assert not (HERE / path).exists()
        (copy / path).write_text(code)
    server = f"{fermata()} --bind {{host}}:{{port}} {{app}}"
    arguments = ["--server", server, "--only", "hope-is-no-success", "-v"]
    done = subprocess.run(
        [sys.executable, "-m", "conformance", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG * 4,
    )
    assert (done.returncode, "pass           hope-is-no-success" in done.stdout) == (0, True), done.stdout + done.stderr
