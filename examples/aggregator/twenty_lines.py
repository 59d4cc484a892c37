"""The aggregator in twenty lines of plain WSGI+ and the standard library, without Flask.

    build/fermata --threads 2 --chdir examples/aggregator twenty_lines:app

What it leaves out is in README.md.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote
from urllib.request import urlopen

pool, services = ThreadPoolExecutor(100), ["price", "stock", "reviews", "shipping", "similar"]


def ask(url):
    with urlopen(url, timeout=2) as answer:
        return json.load(answer)


def app(environ, start_response):
    target = f"{quote(environ['PATH_INFO'].encode('latin-1'))}?{environ['QUERY_STRING']}"  # the path is decoded
    asked = {name: pool.submit(ask, f"http://127.0.0.1:9000/{name}{target}") for name in services}
    found = {}
    for name, future in asked.items():  # all have been started, so to wait in turn takes no longer
        try:
            yield future  # the request is parked: no thread of the server waits
            found[name] = future.result()
        except Exception as error:
            found[name] = f"failed: {error}"
    start_response("200 OK", [("Content-Type", "application/json")])
    yield json.dumps(found).encode()
