"""What the admin port asks of the application.  Compiled into the binary; runs in a thread that does nothing else, one
for each kind of question."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from types import CoroutineType, FunctionType, GeneratorType
from typing import Any

__all__ = ["kinds", "metrics", "pools"]

_SHARED = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


def metrics() -> bytes | None:
    """What prometheus_client has for a scrape; None if the application has not imported it, or is just about to.

    Where processes share a directory of metrics those of all of them are collected, as the library's own exporters do.
    """
    client: Any = sys.modules.get("prometheus_client")
    if not hasattr(client, "generate_latest"):
        return None
    registry: Any = client.REGISTRY
    if any(name in os.environ for name in _SHARED):
        registry = client.CollectorRegistry()
        importlib.import_module("prometheus_client.multiprocess").MultiProcessCollector(registry)
    text: object = client.generate_latest(registry)
    if not isinstance(text, bytes):
        raise TypeError(f"generate_latest has returned {type(text).__name__}, and not bytes")
    return text if text.endswith(b"\n") or not text else text + b"\n"  # there may come a comment behind it


# What kind of future a request waits for.  Nothing of the application's is called: attributes are read of objects whose
# very type is Python's own, or where a future has them itself.  What is read within concurrent.futures and asyncio is none
# of their interface: whatever is not as expected there is left out.

_MOST = 5  # kinds of a place that are told
_LONGEST = 200  # characters of a kind
_DEEPEST = 50  # coroutines within each other
_LARGE = 10_000  # calls that wait for a pool: of more it is not looked at which ones

_DICT: Any = vars(Future).get("__dict__")  # that of a future, whatever its class makes of the name

Pools = dict[int, str]  # what each future waits for, by its id


def pools(has_gil: bool) -> Pools:
    """The futures of the pools that there are, as long as they have not begun; of processes also those that run.

    Only where nothing changes meanwhile.
    """
    found: Pools = {}
    if has_gil:
        for part in (_queued_for_threads, _of_processes):
            try:
                found.update(part())
            except Exception:
                continue
    return found


def _queued_for_threads() -> Iterator[tuple[int, str]]:
    module: Any = sys.modules.get("concurrent.futures.thread")
    simple: Any = getattr(sys.modules.get("_queue"), "SimpleQueue", None)
    queues: list[Any] = list(getattr(module, "_threads_queues", {}).values())
    for queue in {id(queue): queue for queue in queues}.values():  # one for each of the pool's threads
        if type(queue) is not simple or queue.qsize() > _LARGE:
            continue
        for held in gc.get_referents(queue):
            for item in list(held) if type(held) is list else [held]:
                if type(item) is module._WorkItem:
                    yield id(item.future), "ThreadPoolExecutor"


def _of_processes() -> Iterator[tuple[int, str]]:
    module: Any = sys.modules.get("concurrent.futures.process")
    for manager in list(getattr(module, "_threads_wakeups", {})):
        items = manager.pending_work_items
        if len(items) <= _LARGE:
            for item in list(items.values()):
                yield id(item.future), "ProcessPoolExecutor"


def kinds(place: int, futures: list[Any], known: Pools, has_gil: bool) -> bytes:
    """A line for each kind: the number of the place, how many futures there are of it, and what it is."""
    tasks: dict[str, str] = {}  # the name of the first that stands there
    found: Counter[str] = Counter()
    for future in futures:
        task = _task_behind(future)
        kind = _kind(future, known) if task is None else _standing(task, has_gil)
        if task is not None:
            tasks.setdefault(kind, _name(task))
        found[kind] += 1
    lines = []
    for kind, n in found.most_common(_MOST):
        said = kind if kind not in tasks else f"asyncio {'tasks like' if n > 1 else 'task'} {tasks[kind]}{kind}"
        lines.append(f"{place}\t{n}\t{_plain(said)}\n")
    rest = sum(found.values()) - sum(n for _, n in found.most_common(_MOST))
    if rest:
        lines.append(f"{place}\t{rest}\tothers\n")
    return "".join(lines).encode("utf-8", "backslashreplace")


def _plain(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


def _own(future: Any, name: str) -> Any:
    """An attribute that the future has in its own dictionary, or None."""
    try:
        return _DICT.__get__(future).get(name)
    except Exception:
        return None


def _kind(future: Any, known: Pools) -> str:
    pool, state = known.get(id(future)), _own(future, "_state")
    if type(state) is not str:
        pool = state = None
    if pool is None and state == "RUNNING" and "concurrent.futures.thread" in sys.modules:
        pool = "ThreadPoolExecutor"  # only a pool says so of its futures, and one of processes would know it
    if pool is not None and state in ("PENDING", "RUNNING"):
        return f"{pool}, {'not begun' if state == 'PENDING' else 'running'}"
    kind = type(future)
    module, name = type.__getattribute__(kind, "__module__"), type.__getattribute__(kind, "__qualname__")
    named = type(module) is str and module != "concurrent.futures._base"
    return f"{module}.{name}" if named else str(name)


def _task_behind(future: Any) -> Any:
    """The task of asyncio that the future is of: run_coroutine_threadsafe and wsgi_plus's AsyncBridge have a callback
    of it that cancels the task, which is bound to that."""
    asyncio: Any = sys.modules.get("asyncio")
    callbacks = _own(future, "_done_callbacks")
    if asyncio is None or type(callbacks) is not list:
        return None
    try:
        for callback in callbacks[:8]:
            closure = callback.__closure__ if type(callback) is FunctionType else None
            for cell in closure or ():
                if issubclass(type(cell.cell_contents), asyncio.Task):
                    return cell.cell_contents
    except Exception:
        pass
    return None


def _name(task: Any) -> str:
    try:
        return str(sys.modules["asyncio"].Task.get_name(task))
    except Exception:
        return ""


def _standing(task: Any, has_gil: bool) -> str:
    """ ": streams.py:545 readline <- app.py:4 read": the innermost first.  Only where it does not go on meanwhile."""
    if not has_gil:
        return ""
    try:
        frames = list(_frames(sys.modules["asyncio"].Task.get_coro(task)))
    except Exception:
        return ""
    frames.reverse()
    if len(frames) > 4:
        frames[2:-2] = ["..."]
    return ": " + " <- ".join(frames) if frames else ""


def _frames(awaited: Any) -> Iterator[str]:
    for _ in range(_DEEPEST):
        if type(awaited) is CoroutineType:
            frame, awaited = awaited.cr_frame, awaited.cr_await
        elif type(awaited) is GeneratorType:
            frame, awaited = awaited.gi_frame, awaited.gi_yieldfrom
        else:
            return
        if frame is None:
            return
        code = frame.f_code
        yield f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"
