"""A client for pages that have a Content-Length.  Its coroutines run in the AsyncBridge's thread."""

import asyncio
import re

from django.conf import settings

LIMIT = 1 << 20  # of a page, in bytes


class Broken(Exception):
    """The upstream cannot be reached, breaks off, or says what this does not understand."""


async def fetch(path: str) -> tuple[int, str, bytes]:
    """Status, content type and body.  Raises Broken.  To cancel it closes the connection."""
    try:
        return await _fetch(path)
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise Broken(str(error) or type(error).__name__) from error


async def _fetch(path: str) -> tuple[int, str, bytes]:
    if not re.fullmatch("/[!-~]*", path):  # else it could end the request line: not only forms write to the database
        raise ValueError("no path that can be asked for")
    host, _, port = settings.UPSTREAM.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {settings.UPSTREAM}\r\nConnection: close\r\n\r\n".encode("ascii"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = re.match("HTTP/1[.][01] ([2-5][0-9][0-9]) ", head)
        fields = {name.lower(): value.strip() for name, value in re.findall("\r\n([^:\r\n]+):([^\r\n]*)", head)}
        length = int(fields.get("content-length", -1))
        if status is None or not 0 <= length <= LIMIT:
            raise ValueError("no page of a length that this can take")
        return int(status[1]), fields.get("content-type", "text/plain"), await reader.readexactly(length)
    finally:
        writer.transport.abort()
