"""Flask with what small services ask: Redis at BENCH_REDIS, or SQLite at BENCH_SQLITE."""

import itertools
import os
import sqlite3
import threading
from typing import Any

from flask import Flask, jsonify
from flask.wrappers import Response

USERS = 1000
turn = itertools.count()


def redis_app() -> Flask:
    """Two round trips: a session is read, a visit counted."""
    import redis as package  # type: ignore

    flask = Flask("redis")
    client = package.Redis(unix_socket_path=os.environ["BENCH_REDIS"], decode_responses=True)
    for user in range(USERS):
        client.set(f"session:{user}", f"user {1000 + user}")

    @flask.get("/")
    def page() -> Response:
        user = next(turn) % USERS
        name = client.get(f"session:{user}")
        visits = client.incr(f"visits:{user}")
        return jsonify(name=name, again=visits > 0)

    return flask


def sqlite_app() -> Flask:
    """Two queries, on a connection of the thread."""
    flask = Flask("sqlite")
    local = threading.local()

    def query(sql: str, *parameters: Any) -> list[Any]:
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(os.environ["BENCH_SQLITE"])
        rows: list[Any] = local.connection.execute(sql, parameters).fetchall()
        return rows

    @flask.get("/")
    def page() -> Response:
        user = next(turn) % USERS
        (name,) = query("SELECT name FROM bench_user WHERE id = ?", user)[0]
        items = query("SELECT name, price FROM bench_item WHERE user_id = ? ORDER BY id LIMIT 10", user)
        return jsonify(name=name, items=[item for item, _ in items])

    return flask


if "BENCH_REDIS" in os.environ:
    redis = redis_app()
if "BENCH_SQLITE" in os.environ:
    sqlite = sqlite_app()
