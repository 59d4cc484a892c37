"""A response that a decorator wants to change before there is one: what decorators such as cross_origin do.

They call ``make_response`` with what the view has returned, set headers on what they get, and return that.  For a view
that waits they get a ``ResponseLater``, which notes what they do, and does it to the response when that is there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator
from concurrent.futures import Future
from functools import partial
from typing import Any, NoReturn

from werkzeug.datastructures import Headers

from .._suspends import ViewThatWaits
from .._unwaited import named

__all__ = ["ResponseLater"]

Change = Callable[[Any], object]
"""What is to be done to the response."""

METHODS = ("set_cookie", "delete_cookie", "call_on_close")
HEADERS = ("add", "add_header", "extend", "remove", "set", "setdefault", "setlist", "update")


class ResponseLater(ViewThatWaits[Any]):
    """Is what a view returns, and goes on as that does: ``run`` gives the response with all changes made.

    ``make`` makes a response of what the view returns.  What is asked of a response that there is not raises
    AttributeError.
    """

    def __init__(self, view: ViewThatWaits[Any], make: Callable[[Any], Any]) -> None:
        own: dict[str, Any] = vars(self)
        own.update(
            _fate=view._fate, _generator=view._generator, _view=view._view, _inside=view, _make=make, _changes=[]
        )
        own["headers"] = _Headers(self)

    def __setattr__(self, name: str, value: object) -> None:
        vars(self)[name] = value
        self._note(lambda response: setattr(response, name, value))

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            return partial(self._later, operator.attrgetter(name))
        return super().__getattr__(name)

    def _later(self, method: Callable[[Any], Callable[..., object]], *args: Any, **kwargs: Any) -> None:
        self._note(lambda response: method(response)(*args, **kwargs))

    def _note(self, change: Change) -> None:
        vars(self)["_changes"].append(change)

    def run(self) -> Generator[Future[Any], None, Any]:
        own = vars(self)
        try:
            response = own["_make"]((yield from own["_inside"].run()))
            for change in own["_changes"]:
                change(response)
            return response
        finally:
            own["_changes"] = own["headers"] = None  # they lead to this: no cycle


class _Headers(Headers):
    """Those of a response that there is not yet: they can be changed, and not be read."""

    def __init__(self, later: ResponseLater) -> None:
        super().__init__()
        own: dict[str, Any] = vars(self)
        own["_view"], own["_fate"] = later._view, later._fate
        for name in HEADERS:
            own[name] = partial(later._later, partial(_method_of_headers, name))
        own["_set"], own["_remove"] = own["set"], own["remove"]

    def __setitem__(self, key: Any, value: Any) -> None:
        vars(self)["_set"](key, value)

    def __delitem__(self, key: Any) -> None:
        vars(self)["_remove"](key)

    def _told(self, *_: object, **__: object) -> NoReturn:
        vars(self)["_fate"].known = True
        raise AttributeError(
            f"{named(vars(self)['_view'])} has not returned its response yet: a decorator around @suspends asked for "
            "one of the headers, which can only be set"
        )

    __getitem__ = __iter__ = __contains__ = __len__ = _told
    get = get_all = getlist = items = keys = values = has_key = pop = popitem = to_wsgi_list = _told


def _method_of_headers(name: str, response: Any) -> Callable[..., object]:
    method: Callable[..., object] = getattr(response.headers, name)
    return method
