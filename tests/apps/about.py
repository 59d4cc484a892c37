"""Answers with what the interpreter looks like from inside, as JSON."""

import json
import locale
import os
import sys
import threading

import routes


def application(environ, start_response):
    facts = {
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "executable": sys.executable,
        "path": sys.path,
        "argv": sys.argv,
        "flags": {"dev_mode": sys.flags.dev_mode, "warnoptions": sys.warnoptions},
        "version": list(sys.version_info[:3]),
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "encoding": [sys.getfilesystemencoding(), locale.getpreferredencoding(False), sys.stderr.encoding],
        "thread": threading.current_thread().name,
        "threads": sorted(t.name for t in threading.enumerate()),
    }
    return routes.text(start_response, json.dumps(facts))
