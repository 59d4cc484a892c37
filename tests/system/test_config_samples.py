"""Command lines and configuration files as people of gunicorn have them: sets of options that are in use, all taken."""

from __future__ import annotations

import re

import pytest
import tomllib
from gunicorn.config import KNOWN_SETTINGS
from harness.server import run

BIND = "--bind 127.0.0.1:8000"
UNIX = "--bind unix:/tmp/app.sock"

# Each a set of options as it is found, with values of ours.
COMMAND_LINES = [
    "about",
    f"about {BIND}",
    f"{BIND} about",
    f"{BIND} --workers 3 about",
    f"--workers 2 --threads 4 {BIND} about",
    f"about {BIND} --workers 3",
    f"{BIND} -k gevent about",
    f"--workers 3 {BIND} about",
    f"{UNIX} --access-logfile - --workers 3 about",
    f"-k eventlet -w 1 about {BIND} --access-logfile access.log --log-level info",
    f"{BIND} --error-logfile - --workers 2 --threads 2 about",
    f"-k gevent --access-logfile - {BIND} about",
    f"{UNIX} --workers 3 about",
    f"--access-logfile - --workers 3 {UNIX} about --env NAME=VALUE",
    f"about {BIND} --error-logfile -",
    f"about --workers 1 {BIND}",
    f"--workers 2 {BIND} --access-logfile - --error-logfile - --no-control-socket about",
    f"{BIND} --chdir . --workers 2 about",
    "--workers 2 about",
    f"--workers 1 -k geventwebsocket.gunicorn.workers.GeventWebSocketWorker --worker-connections 1000 {BIND} about",
    f"--workers 2 -k gthread --threads 4 {BIND} about",
    "--check-config --print-config about",
    f"{BIND} --limit-request-line 4094 --limit-request-fields 100 --limit-request-field_size 8190 about",
    f"{BIND} --forwarded-allow-ips=* --proxy-allow-from=* --access-logformat '%(h)s' --log-file=- about",
    f"{BIND} --workers 1 --threads 8 --timeout 60 --graceful-timeout 60 --access-logfile - --error-logfile - about",
    f"-k gevent --timeout 90 {BIND} --log-level debug about",
    f"--workers 3 --timeout 300 {UNIX} --umask 007 about",
    f"-w 2 {BIND} --threads 2 --timeout 120 about",
    f"about --preload {BIND} --workers 2",
    f"{BIND} --workers 1 --threads 8 --timeout 0 about",
    f"about {BIND} --workers 2 --timeout 30",
    "about --reload",
    f"about {BIND} --workers 4 --timeout 30 --log-level info",
    f"--workers 3 -k sync --timeout 30 {BIND} about",
    f"--workers 3 {BIND} --timeout 30 about",
    f"{BIND} --workers 2 --threads 2 --timeout 60 about",
    "--workers 2 --timeout 60 --log-level warning about --log-file -",
    f"{BIND} --worker-tmp-dir /dev/shm --no-sendfile --reuse-port --keep-alive 2 --max-requests-jitter 50 about",
]

REFUSED = {
    f"{UNIX} --daemon --workers 2 about": "use systemd",
    "-D about": "use systemd",
    f"about {BIND} -k uvicorn.workers.UvicornWorker --timeout 60": "ASGI",
    "about --worker-class=uvicorn_worker.UvicornWorker --log-level info": "ASGI",
    f"{BIND} --workers 2 --certfile c.pem --keyfile k.pem about": "TLS",
}


def words(line: str) -> list[str]:
    return line.replace("'", "").split()


def printed(text: str) -> dict:
    return tomllib.loads(text)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_line(line):
    """It is taken, options before and behind the application, and says nothing."""
    done = run("--print-config", *words(line))
    assert done.returncode == 0, done.stderr
    assert printed(done.stdout)["wsgi_app"] == "about"
    assert "--check-config" in line or done.stderr == ""


@pytest.mark.parametrize("line", REFUSED)
def test_refused_command_line(line):
    done = run("--print-config", *words(line))
    assert done.returncode == 2
    assert REFUSED[line] in done.stderr


def test_commands_variable():
    """The environment's options count as the command line's do."""
    done = run("--print-config", "about", env={"GUNICORN_CMD_ARGS": "--bind=127.0.0.1:8001 --workers=3 --timeout 20"})
    assert done.returncode == 0, done.stderr
    found = printed(done.stdout)
    assert (found["bind"], found["workers"]) == (["127.0.0.1:8001"], 3)


# What a file sets, and some of what must come of it.
FILES: dict[str, tuple[str, dict[str, object]]] = {
    "few": ("bind = '0.0.0.0:8000'\nworkers = 4\n", {"bind": ["0.0.0.0:8000"], "workers": 4}),
    "processors": (
        "import multiprocessing\nworkers = multiprocessing.cpu_count() * 2 + 1\nworker_class = 'gthread'\nthreads = 2\n",
        {"threads": 2},
    ),
    "environment": (
        "import os\n\nbind = f\"0.0.0.0:{os.environ.get('PORT', '8080')}\"\nworkers = int(os.getenv('WORKERS', '2'))\n"
        "timeout = int(os.environ.get('TIMEOUT', 120))\nloglevel = os.environ.get('LOG_LEVEL', 'info')\n",
        {"bind": ["0.0.0.0:8080"], "workers": 2, "loglevel": "info"},
    ),
    "logs": (
        "accesslog = '-'\nerrorlog = '-'\nloglevel = 'warning'\ncapture_output = True\n"
        'access_log_format = \'%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"\'\n',
        {"accesslog": "-", "errorlog": "-", "loglevel": "warning"},
    ),
    "timeouts": (
        "timeout = 30\ngraceful_timeout = 20\nkeepalive = 2\nmax_requests = 1000\nmax_requests_jitter = 50\nbacklog = 2048\n",
        {"graceful_timeout": 20, "keepalive": 2, "backlog": 2048},
    ),
    "limits": (
        "limit_request_line = 4094\nlimit_request_fields = 100\nlimit_request_field_size = 8190\n",
        {"limit_request_line": 4094, "limit_request_field_size": 8190},
    ),
    "processes": (
        "preload_app = True\nproc_name = 'site'\npidfile = None\numask = 0o007\nuser = None\ngroup = None\ndaemon = False\n"
        "tmp_upload_dir = None\nworker_tmp_dir = '/dev/shm'\n",
        {"umask": "7"},
    ),
    "unused": ("spew = False\nreload = False\nsendfile = True\nreuse_port = True\ncheck_config = False\n", {}),
    "many binds": (
        "bind = ['127.0.0.1:8000', '[::1]:8000']\nraw_env = ['A=1', 'B=2']\n",
        {"bind": ["127.0.0.1:8000", "[::1]:8000"], "raw_env": ["A=1", "B=2"]},
    ),
    "proxies": (
        "forwarded_allow_ips = '*'\nproxy_allow_ips = '*'\nproxy_protocol = False\n"
        "secure_scheme_headers = {'X-FORWARDED-PROTO': 'https'}\n",
        {"forwarded_allow_ips": "*", "proxy_allow_ips": "*", "proxy_protocol": "off"},
    ),
    "application": (
        "wsgi_app = 'about:application'\nchdir = '.'\npythonpath = '.'\n",
        {"wsgi_app": "about:application"},
    ),
    "helpers": (
        "import json, os\n\nhost = os.getenv('HOST', '0.0.0.0')\nport = os.getenv('PORT', '80')\n"
        "use_bind = os.getenv('BIND') or f'{host}:{port}'\ncores = os.cpu_count() or 1\n"
        "web_concurrency = max(int(cores), 2)\n\nbind = use_bind\nworkers = min(web_concurrency, 8)\n"
        "worker_tmp_dir = '/dev/shm'\n_private = 1\nlog_data = {'workers': workers, 'bind': bind}\nprint(json.dumps(log_data))\n",
        {"bind": ["0.0.0.0:80"]},
    ),
    "hooks that log": (
        "def on_starting(server):\n    server.log.info('starting')\n\n\ndef post_fork(server, worker):\n"
        "    server.log.info('worker %s', worker.pid)\n\n\ndef worker_abort(worker):\n    worker.log.info('abort')\n",
        {},
    ),
    "hooks of prometheus": (
        "def child_exit(server, worker):\n    from prometheus_client import multiprocess\n\n"
        "    multiprocess.mark_process_dead(worker.pid)\n",
        {},
    ),
    "hooks for pools": (
        "def post_fork(server, worker):\n    from app import engine\n\n    engine.dispose(close=False)\n\n\n"
        "def pre_request(worker, req):\n    worker.log.debug('%s %s', req.method, req.path)\n",
        {},
    ),
    "classes": (
        "import gevent_of_ours as _g\n\nworker_class = _g.Worker\nworker_connections = 1000\n",
        {"worker_connections": 1000},
    ),
    "nothing": ("", {}),
}


@pytest.mark.parametrize("name", FILES)
def test_file(name, tmp_path):
    """It is read, what it sets is set, and nothing in it is taken for a mistake."""
    text, wanted = FILES[name]
    (tmp_path / "gevent_of_ours.py").write_text("class Worker:\n    pass\n")
    (tmp_path / "gunicorn.conf.py").write_text(text)
    done = run("--print-config", "-c", "gunicorn.conf.py", *([] if "wsgi_app" in text else ["about"]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = printed(re.sub(r"\A\{.*\}\n", "", done.stdout))  # what the file prints comes first
    assert {key: found.get(key) for key in wanted} == wanted
    assert done.stderr == ""


# ---- all of gunicorn's ----

SETTINGS = {setting.name: setting for setting in KNOWN_SETTINGS}


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.cli])
def test_each_option_of_gunicorn_is_known(name):
    """It is taken, or the message says what to do instead."""
    setting = SETTINGS[name]
    takes_nothing = setting.action in ("store_true", "store_const")
    default = setting.default
    value = default if isinstance(default, str) and default else "1"
    for spelling in setting.cli:
        if spelling in ("-c", "--config"):
            continue
        done = run("--print-config", spelling, *([] if takes_nothing else [value]), "about")
        assert done.returncode == 0 or re.search(
            rf"there is no option {spelling}: \w|{spelling}.*: it takes", done.stderr
        )


def test_each_setting_of_gunicorn_is_known(tmp_path):
    """A file that sets each to gunicorn's default is taken, and nothing in it is taken for a mistake."""
    lines, left_out = [], {"config", "print_config", "check_config", "chdir", "wsgi_app"}
    for name, setting in SETTINGS.items():
        hook = callable(setting.default)
        if name not in left_out and (hook or type(setting.default) in (str, int, list, dict, bool, type(None))):
            lines.append(f"def {name}(*_):\n    pass" if hook else f"{name} = {setting.default!r}")
    (tmp_path / "conf.py").write_text("\n".join(lines) + "\n")
    done = run("--print-config", "-c", "conf.py", "about", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("--check-config", "-c", str(tmp_path / "conf.py"), "about")
    assert done.returncode == 0, done.stderr
    assert "there is no setting" not in done.stderr
