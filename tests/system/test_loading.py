"""The command: how the application is found, and what its process finds: path, arguments, virtual environment."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from harness.limits import APPS, EXTENSION, LONG, PROMPT, fermata
from harness.server import environment, virtualenv

# The extension module has the environment that it is installed in: test_extension.py.
embedded = pytest.mark.skipif(EXTENSION, reason="of the binary, which can take any environment")


def about(server):
    return json.loads(server.get("/").text)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("loading.both", "application"),
        ("loading.both:app", "app"),
        ("loading.only_app", "app"),
        ("loading.package", "of the package"),
        ("loading.package:app", "of the package"),
        ("loading.shop:site.inner", "dotted"),
        ("loading.shop:site.inner.bound", "bound dotted"),
        ("loading.shop:create_app()", "default 0 None"),
        ('loading.shop:create_app("prod")', "prod 0 None"),
        ("loading.shop:create_app('prod', size=-3)", "prod -3 None"),
        (
            "loading.shop:create_app(size=2, options={'a': [1, 2.5, None, True]})",
            "default 2 {'a': [1, 2.5, None, True]}",
        ),
        ("loading.shop:Site('class as a factory')", "class as a factory"),
    ],
)
def test_module_and_callable(launch, target, answer):
    """MODULE[:CALLABLE]: default names, dotted names, and factory calls with literal arguments."""
    assert launch(target).get("/").text == answer


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_module", r"no_such_module"),
        ("loading.no_such_module", r"no_such_module"),
        ("loading.neither", r"application"),
        ("loading.modules", r"name the callable as loading\.modules\.app:CALLABLE"),
        (":application", r":application"),
        ("about:", r"about:"),
        ("about:create_app(", r"create_app\("),
        ("about:import os", r"import os"),
        ("loading.shop:create_app(__import__('os').getcwd())", r"create_app"),
        ("loading.both:nothing", r"nothing"),
        ("loading.shop:site.nothing", r"nothing"),
        ("loading.shop:number", r"call"),
        ("loading.shop:create_number()", r"call"),
        ("loading.shop:create_error()", r"Traceback[\s\S]*create_error[\s\S]*KeyError: .the factory's own error"),
        ("loading.shop:create_app(1, 2, 3)", r"TypeError"),
        ("loading.broken", r"Traceback[\s\S]*broken\.py[\s\S]*in fails[\s\S]*ZeroDivisionError"),
        ("loading.broken_import", r"Traceback[\s\S]*broken_import\.py[\s\S]*a_module_that_is_not_there"),
        ("loading.exits", r"SystemExit"),
        ("about.py", r"No module named 'about\.py'[\s\S]*: see the traceback above; a module is named without \.py: about$"),
        ("about.py:app", r"without \.py: about:app$"),
        ("loading/shop.py:create_app()", r"not of a module: loading\.shop:create_app\(\)$"),
        ("./about.py", r"not of a module: about$"),
        ("loading/shop", r"not of a module: loading\.shop$"),
        ("/srv/shop/about.py:app", r"not of a module: --chdir /srv/shop about:app$"),
        ("../about:app", r"not of a module: --chdir \.\. about:app$"),
        pytest.param(
            "loading.broken_import", r"above; no virtual environment is in use: --venv DIR names one$", marks=embedded
        ),
        ("loading.no_such_module", r": see the traceback above$"),
        ("loading.broken", r": see the traceback above$"),
    ],
)
def test_application_that_cannot_be_loaded(launch, target, said):
    """An application that cannot be loaded: exit code 3, and Python's own words about it."""
    server = launch(target, ready=False, expect=3)
    assert server.wait_exit() == 3
    assert re.search(said, server.log().rstrip()), server.log()


def test_a_module_that_the_virtual_environment_has_not(launch):
    """Then the message does not tell to use one."""
    server = launch("loading.broken_import", "--venv", virtualenv(), ready=False, expect=3)
    assert server.wait_exit() == 3
    assert server.log().rstrip().endswith(": see the traceback above")


@pytest.mark.parametrize("how", ["threads", "pool", "daemon"])
def test_failed_load_does_not_wait_for_threads(launch, tmp_path, how):
    """A load that fails exits with 3, at once, also where its import had started a thread that is never ended; what was
    printed is there, and atexit handlers run."""
    start = {
        "threads": "threading.Thread(target=threading.Event().wait).start()",
        "daemon": "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "pool": "concurrent.futures.ThreadPoolExecutor(2).submit(threading.Event().wait)",
    }[how]
    (tmp_path / "started.py").write_text(
        f"import atexit, concurrent.futures, threading\n{start}\natexit.register(print, 'at exit')\n"
        "print('printed')\nraise LookupError('on purpose')\n"
    )
    path = tmp_path / "s"
    server = launch("started", bind=[f"unix:{path}"], cwd=tmp_path, ready=False, expect=3)
    assert server.wait_exit(within=PROMPT) == 3
    assert server.stdout() == "printed\nat exit\n"
    assert "LookupError: on purpose" in server.log()
    assert not path.exists()


GREEN = {
    "gevent": ("gevent/monkey.py", "def is_module_patched(name): return name == 'threading'"),
    "gevent, old": ("gevent/monkey.py", "def is_module_patched(name): return name == 'thread'"),
    "eventlet": ("eventlet/patcher.py", "def is_monkey_patched(name): return name == 'thread'"),
    "none": ("gevent/monkey.py", "def is_module_patched(name): return name in ('socket', 'ssl')"),
}


@pytest.mark.parametrize("fails", [False, True], ids=["loads", "fails"])
@pytest.mark.parametrize("library", GREEN)
def test_green_threads_are_refused(launch, tmp_path, library, fails):
    """A library that puts threads of its own in the place of Python's: one line that says what to do, exit code 3; not
    what becomes of the server's threads then, nor what the import may have failed of for that."""
    name, text = GREEN[library]
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(text)
    module = name.removesuffix(".py").replace("/", ".")
    (tmp_path / "green.py").write_text(f"import {module}\nfrom about import application\n{'1 / 0' if fails else ''}\n")
    refused = library != "none"
    how = {"ready": False, "expect": 3} if refused or fails else {}
    server = launch("green", "--pythonpath", str(APPS), cwd=tmp_path, **how)
    if refused or fails:
        assert server.wait_exit() == 3
    else:
        assert server.get("/").status == 200
    assert ("monkey-patching" in server.log()) == refused
    if refused:
        assert "Traceback" not in server.log()
        assert re.search(rf"take the monkey-patching of {library[:6]}\w* out of the application", server.log())


def test_syntax_error_in_the_application(launch, tmp_path):
    """A syntax error is shown with file and line: exit code 3."""
    (tmp_path / "slip.py").write_text("def application(environ, start_response)\n    return []\n")
    server = launch("slip", cwd=tmp_path, ready=False, expect=3)
    assert server.wait_exit() == 3
    assert re.search(r'slip\.py", line 1[\s\S]*SyntaxError', server.log())


def test_no_request_is_answered_by_an_application_that_cannot_be_loaded(launch, tmp_path):
    """While and after loading fails, no client gets a 200."""
    path = tmp_path / "s"
    server = launch("loading.broken", bind=[f"unix:{path}"], ready=False, expect=3)
    assert server.wait_exit() == 3
    assert not path.exists()


def test_current_directory_is_on_the_path(launch, tmp_path):
    """The current directory comes first on sys.path."""
    (tmp_path / "local.py").write_text("from about import application\n")
    facts = about(launch("local", "--pythonpath", str(APPS), cwd=tmp_path))
    assert str(tmp_path) in (facts["path"][0] or facts["cwd"], *facts["path"][:2])


def test_chdir(launch):
    """--chdir: modules are found there, and it is the current directory."""
    server = launch("moved", "--chdir", "elsewhere")
    assert server.get("/").text == str(APPS / "elsewhere")


def test_pythonpath(launch):
    """--pythonpath: a list of folders with commas, as gunicorn has it."""
    server = launch("only_here", "--pythonpath", f"elsewhere,{APPS / 'library'}")
    assert server.get("/").text.endswith("library/only_here.py")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["about"], []),
        (["--threads", "2", "about"], []),
        (["about", "--"], []),
        (["about", "--", "--x", "-b", "y z"], ["--x", "-b", "y z"]),
        (["--", "about"], []),
        (["--", "about", "--threads", "0", "--"], ["--threads", "0", "--"]),
        (["about", "--threads", "2", "--", "about"], ["about"]),
    ],
    ids=" ".join,
)
def test_arguments_of_the_application(launch, command, arguments):
    """sys.argv is the application's: the command, and what follows --, which is none of the server's business."""
    at = command.index("--") if "--" in command else len(command)
    server = launch(None, *command[:at], "--bind", "127.0.0.1:0", *command[at:], bind=None)
    assert about(server)["argv"] == [str(fermata()), *arguments]


def test_env(launch):
    """--env NAME=VALUE, repeatable, is in os.environ before the application is loaded; values may have = in them."""
    facts = about(launch("about", "--env", "FIRST=1", "--env", "SECOND=a=b", "--env", "EMPTY="))
    assert [facts["environ"].get(name) for name in ("FIRST", "SECOND", "EMPTY")] == ["1", "a=b", ""]


@embedded
@pytest.mark.parametrize("how", ["option", "variable"])
def test_virtual_environment(launch, tmp_path, how):
    """--venv DIR and VIRTUAL_ENV: its packages and its prefix, as its own python has them."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python3.*/site-packages"))
    (packages / "only_in_venv.py").write_text("from about import application\n")
    if how == "option":
        server = launch("only_in_venv", "--venv", str(folder))
    else:
        server = launch("only_in_venv", env={"VIRTUAL_ENV": str(folder)})
    facts = about(server)
    own = subprocess.run(
        [folder / "bin" / "python", "-c", "import sys, json; print(json.dumps([sys.prefix, sys.path]))"],
        env=environment(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    prefix, path = json.loads(own.stdout)
    assert facts["prefix"] == prefix
    assert [p for p in facts["path"] if str(packages) in p] == [p for p in path if str(packages) in p]
    assert facts["base_prefix"] != facts["prefix"]


@embedded
def test_relative_virtual_environment(launch, tmp_path):
    """A relative --venv, and VIRTUAL_ENV, are relative to where the command was given, not to --chdir."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "local.py").write_text("from about import application\n")
    options = ("--pythonpath", str(APPS), "--chdir", "site")
    assert about(launch("local", *options, "--venv", "env", cwd=tmp_path))["prefix"] == str(tmp_path / "env")
    assert about(launch("local", *options, env={"VIRTUAL_ENV": "./env"}, cwd=tmp_path))["prefix"].endswith("/env")


def change_home(folder: Path, line: str) -> None:
    config = folder / "pyvenv.cfg"
    config.write_text(re.sub("(?m)^home = .*$", line, config.read_text()))


@embedded
@pytest.mark.parametrize("how", ["option", "variable"])
def test_virtual_environment_of_another_build(launch, tmp_path, how):
    """One that was made with another Python of the same minor version has modules that do not fit: exit code 2, and the
    message says with which Python it was made, and how to make it anew."""
    other = tmp_path / "other" / "bin"
    other.mkdir(parents=True)
    (other / "python{}.{}".format(*sys.version_info)).write_text("#!/bin/sh\n")
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    change_home(folder, f"home = {other}")
    more = {"env": {"VIRTUAL_ENV": str(folder)}} if how == "variable" else {}
    options = ("--venv", str(folder)) if how == "option" else ()
    server = launch("about", *options, ready=False, expect=2, **more)
    assert server.wait_exit() == 2
    assert str(other) in server.log()
    command = re.search(r"make it anew with: (\S+ -m venv --clear \S+)", server.log())
    assert command, server.log()
    subprocess.run([*command[1].split(), "--without-pip"], check=True, env=environment(), timeout=LONG)
    assert about(launch("about", *options, **more))["prefix"] == str(folder)


@embedded
def test_virtual_environment_whose_home_is_a_link(launch, tmp_path):
    """Its home may be another name of the directory, or have links to the same Python: it fits."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    home = Path(re.search("(?m)^home = (.*)$", (folder / "pyvenv.cfg").read_text())[1])  # type: ignore[index]
    (tmp_path / "bin").symlink_to(home)
    change_home(folder, f"  HOME=\t{tmp_path / 'bin'}  ".rstrip())
    assert launch("about", "--venv", str(folder)).get("/").status == 200


@embedded
@pytest.mark.parametrize("text", [None, "version = 3.11\n", "home =\n", "homes = /usr/bin\n"])
def test_virtual_environment_without_a_home(launch, tmp_path, text):
    """What has no pyvenv.cfg that names its home is none: exit code 2."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    (folder / "pyvenv.cfg").unlink()
    if text is not None:
        (folder / "pyvenv.cfg").write_text(text)
    server = launch("about", "--venv", str(folder), ready=False, expect=2)
    assert server.wait_exit() == 2
    assert f"--venv {folder}" in server.log() and "pyvenv.cfg" in server.log()


@embedded
def test_option_venv_wins_over_the_variable(launch, tmp_path):
    """--venv is what counts when VIRTUAL_ENV says something else."""
    for name in ("one", "two"):
        venv.create(tmp_path / name, with_pip=False, symlinks=True)
    facts = about(launch("about", "--venv", str(tmp_path / "one"), env={"VIRTUAL_ENV": str(tmp_path / "two")}))
    assert facts["prefix"] == str(tmp_path / "one")


def test_sys_executable_is_a_python(launch):
    """sys.executable starts a Python of the same version: applications start subprocesses with it."""
    facts = about(launch("about"))
    done = subprocess.run(
        [facts["executable"], "-c", "import sys; print(*sys.version_info[:2])"],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=PROMPT * 2,
    )
    assert done.stdout.split() == [str(n) for n in facts["version"][:2]]


def test_utf8_in_the_c_locale(launch):
    """With LC_ALL=C text is UTF-8, as python itself has it (PEP 538, PEP 540)."""
    facts = about(launch("about", env={"LC_ALL": "C", "LANG": "C"}))
    assert {name.lower().replace("-", "") for name in facts["encoding"]} == {"utf8"}
