"""The application of the suite: /MODULE/NAME is the function NAME of the module MODULE beside this one.

    conformance_app:application

CONFORMANCE_MIDDLEWARE=MODULE:FACTORY puts middleware around it; then it is the middleware that is examined.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Iterable
from typing import Any

import observer
import stage

__all__ = ["application"]


def dispatch(environ: stage.Environ, start_response: stage.StartResponse) -> Iterable[Any]:
    """Hands on what the function gives, untouched: this is no middleware that could hide anything."""
    found = re.fullmatch(r"/(\w+)/([\w-]+)(/.*)?", environ["PATH_INFO"])
    if found is None:
        return stage.text(start_response, "conformance suite of WSGI+\n")
    module, name = found[1], found[2].replace("-", "_")
    function = _APPLICATIONS.get(f"{module}.{name}")
    if function is None:
        return stage.text(start_response, f"no such application: {environ['PATH_INFO']}\n", "404 Not Found")
    body: Iterable[Any] = function(environ, start_response)
    return body


def _load() -> dict[str, Any]:
    here = os.path.dirname(os.path.abspath(__file__))
    names = sorted(name[:-3] for name in os.listdir(here) if re.fullmatch(r"(s\d\d|pep\w*|probe|acts)\.py", name))
    modules = [importlib.import_module(name) for name in names]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


_APPLICATIONS = _load()


def _wrapped(inner: Any) -> Any:
    """With the middleware that is asked for around it, but for what the suite asks first, and with an observer."""
    module, _, name = os.environ.get("CONFORMANCE_MIDDLEWARE", "").partition(":")
    if not module:
        return observer.observed(inner)
    factory: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    examined = observer.observed(factory(inner))

    def application(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
        of_the_server = environ["PATH_INFO"] == "/" or environ["PATH_INFO"].startswith("/probe/")
        return (inner if of_the_server else examined)(environ, start_response)

    return application


application = _wrapped(dispatch)
stage.start()
