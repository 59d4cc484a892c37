"""The view that waits, in twenty lines of plain WSGI+ and the standard library: a proxy for what takes its time.

    build/fermata --threads 2 --chdir examples/django_site twenty_lines:application

What it leaves out is in README.md.
"""

import asyncio, re, threading
from contextlib import closing

threading.Thread(target=(loop := asyncio.new_event_loop()).run_forever, daemon=True).start()


async def fetch(path):
    reader, writer = await asyncio.open_connection("127.0.0.1", 9000)
    with closing(writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: upstream\r\nConnection: close\r\n\r\n".encode("latin-1"))
        return await reader.readuntil(b"\r\n\r\n"), await reader.read()


def application(environ, start_response):
    path = re.sub("^([^/?]+://[^/?]*)?/?", "/", environ["REQUEST_URI"])  # PATH_INFO is decoded, and may have line ends
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(fetch(path), 2), loop)
    try:
        yield future  # the request is parked: no thread waits
        head, body = future.result()
    except Exception as error:
        head, body = b"HTTP/1.1 50%d No Page" % (4 if isinstance(error, asyncio.TimeoutError) else 2), b"no page\n"
    finally:
        future.cancel()  # if the client has left
    start_response(head[9:].split(b"\r\n")[0].decode(), [("Content-Type", "text/plain")])
    yield body
