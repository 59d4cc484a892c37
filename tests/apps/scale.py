"""Parks every request on one future; /release completes it.  Starts no thread of its own, so that threads can be counted."""

from __future__ import annotations

from concurrent.futures import Future

from routes import TEXT, text

waiting: list[Future] = []


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/park":
        return park(start_response)
    if path == "/release":
        done = [waiting.pop() for _ in range(len(waiting))]
        for fut in done:
            fut.set_result(None)
        return text(start_response, str(len(done)))
    return text(start_response, "hello")


def park(start_response):
    fut: Future = Future()
    waiting.append(fut)
    yield fut
    start_response("200 OK", TEXT)
    yield b"resumed"
