"""A server whose Python has no GIL: steps run at the same time, and a library that turns the GIL on is named."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT, eventually, timeout
from harness.server import run

SAID, TAKEN_BACK = r"a library has turned the GIL on, which this Python runs without: ", "the GIL is off again"

LIBRARIES = {
    "turns_it_on": """
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "turns_it_on", NULL, 0, NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_turns_it_on(void) { return PyModule_Create(&definition); }
""",
    "does_without": """
#include <Python.h>
#include <stdlib.h>
#include <unistd.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "does_without", NULL, 0, NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_does_without(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED);
    Py_BEGIN_ALLOW_THREADS
    while (access(getenv("MAY_GO_ON"), F_OK) != 0)
        usleep(1000);
    Py_END_ALLOW_THREADS
    return module;
}
""",
}


def free_threaded_python() -> str:
    """The one that FERMATA is built with."""
    find = [ROOT / "scripts/free-threaded", "--find"]
    return (
        os.environ.get("FERMATA_FREE_THREADED")
        or subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()
    )


@pytest.fixture
def library(tmp_path):
    """A folder with turns_it_on, an extension module that says nothing of the GIL, and does_without, one that says that it
    can do without, when its import is over, which it is when there is a file MAY_GO_ON."""
    (tmp_path / "imports_it.py").write_text("import turns_it_on\nfrom no_gil import app\n")
    python = free_threaded_python()
    include = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"],
        capture_output=True, text=True, check=True, env={**os.environ, "TSAN_OPTIONS": "report_bugs=0"},
    ).stdout.strip()  # fmt: skip
    for name, text in LIBRARIES.items():
        (tmp_path / f"{name}.c").write_text(text)
        command = f"gcc -shared -fPIC -I{shlex.quote(include)} -o {name}.so {name}.c"
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    return tmp_path


def test_it_has_none(launch):
    server = launch("no_gil", admin=True)
    assert server.get("/gil").text == "False"
    assert server.admin.metrics().value("fermata_gil_enabled") == 0
    assert re.search(r"Python 3\.1\d\.\d+\S*t,", server.log_now())
    server.stop()
    assert "GIL" not in server.log()


def test_threads_are_as_many_as_processors():
    """8 at least; and what is given counts."""
    shown = run("--print-config", "no_gil").stdout
    assert re.search(rf"^threads = {max(8, len(os.sched_getaffinity(0)))} ", shown, re.M), shown
    assert re.search(r"^threads = 3 ", run("--print-config", "--threads", "3", "no_gil").stdout, re.M)


@timeout(120)
def test_steps_compute_at_the_same_time(launch):
    """Two that never sleep are in their steps at once, on threads of their own, and others are served meanwhile."""
    server = launch("no_gil", "--threads", "3", admin=True)
    first, second = server.begin("/compute"), server.begin("/compute")
    eventually(lambda: server.call("no_gil.count") == 2, "both compute", within=LONG)
    for _ in range(10):
        assert server.admin.get("/healthz").status == 200
        assert server.get("/hello", timeout=LONG).text == "hello"
    server.call("no_gil.release")
    assert first.read_response().text != second.read_response().text


def test_a_library_that_turns_it_on(launch, library):
    """It is said once, with the name of the module, and the server goes on with the GIL."""
    server = launch("no_gil", admin=True, env={"PYTHONPATH": str(library)})
    assert server.get("/load?module=turns_it_on").text == "True"
    eventually(lambda: server.get("/hello").text and re.search(SAID, server.log_now()), "it is said")
    for _ in range(20):
        assert server.get("/hello").text == "hello"
    assert re.findall(SAID + r"(.*?);", server.log_now()) == ["'turns_it_on'"]
    assert server.admin.metrics().value("fermata_gil_enabled") == 1


@timeout(120)
def test_a_library_that_does_without(launch, library):
    """CPython turns the GIL on while it imports one, which may last, and finds then that it need not stay: steps run in
    parallel again, and it is not said that they do not."""
    env = {"PYTHONPATH": str(library), "MAY_GO_ON": str(library / "may-go-on")}
    server = launch("no_gil", "--threads", "3", admin=True, env=env)

    def has_gil() -> float:
        assert server.get("/hello", timeout=LONG).text == "hello"
        return server.admin.metrics().value("fermata_gil_enabled")

    importing = server.begin("/load?module=does_without")
    eventually(lambda: has_gil() == 1, "it is on meanwhile")
    (library / "may-go-on").touch()
    assert importing.read_response().text == "False"
    eventually(lambda: has_gil() == 0, "it is off again")
    computing = [server.begin("/compute") for _ in range(2)]
    eventually(lambda: server.call("no_gil.count") == 2, "both compute", within=LONG)
    server.call("no_gil.release")
    for request in computing:
        request.read_response()
    server.stop()
    assert len(re.findall(SAID, server.log())) == len(re.findall(TAKEN_BACK, server.log()))


def test_at_the_import_of_the_application(launch, library):
    server = launch("imports_it", admin=True, env={"PYTHONPATH": str(library)})
    assert server.get("/gil").text == "True"
    assert re.findall(SAID + r"(.*?);", server.log_now()) == ["'turns_it_on'"]
    assert server.admin.metrics().value("fermata_gil_enabled") == 1


def test_a_warning_that_is_not_shown(launch, library):
    """Then Python tells no name."""
    server = launch("imports_it", env={"PYTHONPATH": str(library), "PYTHONWARNINGS": "ignore"})
    assert re.search(SAID + "which one, Python has not told;", server.log_now())


def test_kept_off(launch, library):
    server = launch("imports_it", admin=True, env={"PYTHONPATH": str(library), "PYTHON_GIL": "0"})
    assert server.get("/gil").text == "False"
    assert server.admin.metrics().value("fermata_gil_enabled") == 0
    assert not re.search(SAID, server.log_now())


def test_wanted(launch, library):
    """PYTHON_GIL=1: no library has turned it on."""
    server = launch("imports_it", admin=True, env={"PYTHONPATH": str(library), "PYTHON_GIL": "1"})
    assert server.get("/gil").text == "True"
    assert server.admin.metrics().value("fermata_gil_enabled") == 1
    assert not re.search(SAID, server.log_now())
    assert re.search(r"^threads = 8 ", run("--print-config", "no_gil", env={"PYTHON_GIL": "1"}).stdout, re.M)


def test_each_worker_tells(launch, library):
    """With workers the metric is how many have a GIL."""
    server = launch("no_gil", "--workers", "2", admin=True)
    assert server.admin.metrics().value("fermata_gil_enabled") == 0
    assert json.loads(server.admin.get("/workers").text)["workers"]


@timeout(120)
def test_lists_that_other_threads_change(launch):
    """Headers and body are the application's lists, which three threads change all the while: each answer is whole, of
    what was in the lists at some time."""
    server = launch("no_gil", "--threads", "4")
    server.call("no_gil.change")
    seen = set()
    for _ in range(5):
        with server.connect(timeout=LONG) as c:
            for _ in range(60):
                answer = c.request("GET", "/changed")
                seen.add(answer.status)
                if answer.status == 200:
                    assert answer.text == "body" and answer.header("X-Kept") == "yes"
                if answer.header("Connection") == "close":
                    break
    assert seen <= {200, 500} and 200 in seen


@timeout(120)
def test_a_class_that_other_threads_change(launch):
    """Where the inner iterator is, the class tells by a string that two threads replace all the while."""
    server = launch("no_gil", "--threads", "4", admin=True)
    server.call("no_gil.rename")
    for _ in range(20):
        requests = [server.begin("/renamed") for _ in range(8)]
        for request in requests:
            assert request.read_response().text == "parked"
    assert server.admin.metrics().value("fermata_parks_total") > 0


def test_an_environment(launch, tmp_path):
    """What pip installs in a virtual environment, which has a folder of another name than with the GIL, is found."""
    at, python = tmp_path / "venv", free_threaded_python()
    quiet = {**os.environ, "TSAN_OPTIONS": "report_bugs=0"}
    subprocess.run([python, "-m", "venv", "--without-pip", at], check=True, env=quiet)
    find = [at / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(find, capture_output=True, text=True, check=True, env=quiet).stdout.strip()
    assert packages.endswith("t/site-packages")
    (Path(packages) / "installed.py").write_text("from no_gil import app\n")
    server = launch("installed", "--venv", str(at))
    assert server.get("/gil").text == "False"
