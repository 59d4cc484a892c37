"""S16: how the application can find out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from . import Request, fault


@fault("S16.1")
class AList(Request):
    """The version is a list."""

    VERSION = [1, 0]  # type: ignore[assignment]


@fault("S16.1-absent", "S16.2")
class Nothing(Request):
    """The version is not there."""

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        del environ["wsgi_plus.version"]
        return environ


@fault("S16.2-client")
class FromTheClient(Request):
    """A header of the client's gets to where the version is."""

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        for name, values in self.head.fields.items():
            if "version" in name.lower():
                environ["wsgi_plus.version"] = values[-1]
        return environ


@fault("S16.3")
class ACallable(Request):
    """A callable in environ suspends, too."""

    def make_environ(self) -> dict[str, Any]:
        suspend: Callable[[], Future[None]] = Future
        return {**super().make_environ(), "wsgi_plus.suspend": suspend}


@fault("S16.4")
class WhoAsksSuspends(Request):
    """Only an application that has left the key where it was may suspend."""

    def await_future(self, future: Future[Any]) -> Any:
        if "wsgi_plus.version" not in self.environ:
            raise TypeError("yielded a future")
        return super().await_future(future)
