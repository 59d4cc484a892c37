"""What spec/manual/deployment.md shows, and behind-a-proxy.md besides the configurations of proxies (test_behind_*.py)."""

from __future__ import annotations

import re

from harness.limits import ROOT
from harness.proxies import shown
from harness.server import virtualenv

PAGE = ROOT / "spec/manual/deployment.md"

FLASK = """
from flask import Flask, request
from wsgi_plus import sleep
from wsgi_plus.flask import suspending, suspends

app = suspending(Flask(__name__))
{shown}

@app.get("/")
@suspends
def view():
    yield from sleep(0.01)
    return [request.scheme, request.remote_addr]
"""

DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

{shown}
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", SECURE_PROXY_SSL_HEADER=SECURE_PROXY_SSL_HEADER
)
urlpatterns = [path("", lambda request: JsonResponse([request.scheme, request.META["REMOTE_ADDR"]], safe=False))]
app = get_wsgi_application()
"""


def answer(launch, directory, code, name):
    (directory / "site_.py").write_text(code.format(shown=shown(name, {})))
    server = launch("site_:app", "--venv", virtualenv(), "--pythonpath", str(ROOT / "py"), cwd=directory)
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "203.0.113.7")]
    return re.sub(r"\s", "", server.get("/", headers).text)


def test_flask_learns_of_its_client(launch, tmp_path):
    """ProxyFix passes futures through."""
    assert answer(launch, tmp_path, FLASK, "flask") == '["https","203.0.113.7"]'


def test_django_learns_the_scheme(launch, tmp_path):
    assert answer(launch, tmp_path, DJANGO, "django") == '["https","127.0.0.1"]'


def test_links() -> None:
    """Files and sections that the page names are there."""
    text = PAGE.read_text()
    sections = {re.sub("[^a-z -]", "", title.lower()).replace(" ", "-") for title in re.findall("^## (.*)", text, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        name, _, section = target.partition("#")
        assert not name or (PAGE.parent / name).exists(), name
        assert not section or section in sections, section
