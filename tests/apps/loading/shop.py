"""Factories, and callables that are no functions."""

from routes import text


class Site:
    def __init__(self, name):
        self.name = name

    def __call__(self, environ, start_response):
        return text(start_response, self.name)

    def bound(self, environ, start_response):
        return text(start_response, f"bound {self.name}")


class site:  # a namespace, for a dotted callable
    inner = Site("dotted")


def create_app(kind="default", *, size=0, options=None):
    return Site(f"{kind} {size} {options}")


def create_number():
    return 42


def create_error():
    return {}["the factory's own error"]


number = 42
