"""WSGI+ as its proof of concept does it: in a thread pool behind gunicorn, one more job of the pool for each step.

    gunicorn --worker-class poc_worker.PocWorker --threads 8 async_wsgi_apps:futures

When the application's iterable yields a future, the rest of the iteration is submitted to the pool by the future's
done-callback.  What a connection does before and after its request is gunicorn's threaded worker.

Needs: gunicorn, of a version whose ThreadWorker has a method_queue.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker


class PocWorker(ThreadWorker):  # type: ignore[misc]
    def enqueue_req(self, conn: Any) -> None:
        """A request may have begun on the connection.  `done` says whether the connection can be kept."""
        done: Future[bool] = Future()
        done.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))
        self.tpool.submit(self.begin, conn, done)

    def begin(self, conn: Any, done: "Future[bool]") -> None:
        try:
            conn.sock.setblocking(True)
            conn.init()
            request = next(conn.parser)
            if not request:
                done.set_result(False)
                return
            response, environ = wsgi.create(request, conn.sock, conn.client, conn.server, self.cfg)
            environ["wsgi_plus.version"] = (1, 0)
            items = self.wsgi(environ, response.start_response)
        except (StopIteration, OSError):  # the client has left
            done.set_result(False)
        except Exception:
            self.log.exception("no request, or no response")
            done.set_result(False)
        else:
            self.step(items, iter(items), response, done)

    def step(self, items: Any, iterator: Iterator[Any], response: Any, done: "Future[bool]") -> None:
        try:
            for item in iterator:
                if isinstance(item, Future):
                    item.add_done_callback(lambda _: self.tpool.submit(self.step, items, iterator, response, done))
                    return
                response.write(item)
            response.close()
            if hasattr(items, "close"):
                items.close()
            done.set_result(not response.should_close())
        except Exception:
            self.log.exception("the response breaks off")
            done.set_result(False)
