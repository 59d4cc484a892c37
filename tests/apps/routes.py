"""A route table for the test applications: the first part of the path chooses a function, the query string its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[Any]]

TEXT = [("Content-Type", "text/plain; charset=utf-8")]


def arguments(environ: Environ) -> dict[str, str]:
    return dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True, encoding="latin-1"))


def text(start_response: Callable[..., Any], body: str | bytes, status: str = "200 OK") -> list[bytes]:
    data = body.encode() if isinstance(body, str) else body
    start_response(status, [*TEXT, ("Content-Length", str(len(data)))])
    return [data]


class Routes:
    """app = Routes(); @app.route: the function `name` answers /name and /name/..."""

    def __init__(self) -> None:
        self.table: dict[str, Application] = {}

    def route(self, function: Application) -> Application:
        self.table[function.__name__.strip("_").replace("_", "-")] = function
        return function

    def include(self, other: Routes) -> None:
        """Answers what the other table answers as well: of an application that is in several files."""
        assert not self.table.keys() & other.table.keys()
        self.table |= other.table

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[Any]:
        name = environ["PATH_INFO"].lstrip("/").partition("/")[0]
        function = self.table.get(name)
        if function is None:
            return text(start_response, f"no such path: {environ['PATH_INFO']}\n", "404 Not Found")
        return function(environ, start_response)
