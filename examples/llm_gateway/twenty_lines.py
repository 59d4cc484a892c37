"""The gateway in twenty lines of plain WSGI+ and the standard library: what the model says passes through as it comes.

    build/fermata --threads 2 --chdir examples/llm_gateway twenty_lines:app

What it leaves out is in README.md.
"""

import asyncio
import threading

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine):
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    yield future  # the request is parked: no thread waits
    return future.result()


def app(environ, start_response):
    reader, writer = yield from wait(asyncio.open_connection("127.0.0.1", 9000))
    try:
        request = f"GET /generate?{environ['QUERY_STRING']} HTTP/1.1\r\nHost: model\r\n\r\n".encode("latin-1")
        loop.call_soon_threadsafe(writer.write, request)
        head = yield from wait(reader.readuntil(b"\r\n\r\n"))
        start_response(head[9:].split(b"\r\n")[0].decode(), [("Content-Type", "text/event-stream")])
        while size := int((yield from wait(reader.readline())), 16):  # ValueError if the model breaks off
            yield (yield from wait(reader.readexactly(size + 2)))[:-2]
    finally:
        loop.call_soon_threadsafe(writer.transport.abort)  # ends the generation, if the client has left
