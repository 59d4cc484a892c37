"""Flask and Django, unchanged: the applications of their tutorials, condensed, used as a browser uses them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading

import pytest
from harness.browser import Browser
from harness.limits import APPS, LONG, timeout
from harness.server import environment, virtualenv

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000


@pytest.fixture
def flaskr(launch, tmp_path):
    return launch("flaskr:create_app()", "--venv", virtualenv(), env={"FLASKR_INSTANCE": str(tmp_path / "instance")})


@pytest.fixture
def mysite(launch, tmp_path):
    env = {"MYSITE_DATA": str(tmp_path), "DJANGO_SETTINGS_MODULE": "mysite.settings"}

    def manage(*arguments, **more):
        subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=APPS,
            env=environment({**env, **more}),
            check=True,
            capture_output=True,
            timeout=LONG * 2,
        )

    manage("migrate", "--verbosity", "0")
    secret = {"DJANGO_SUPERUSER_PASSWORD": "let me in"}
    manage("createsuperuser", "--noinput", "--username", "admin", "--email", "a@b.example", **secret)
    return launch("mysite.wsgi", "--venv", virtualenv(), env={"MYSITE_DATA": str(tmp_path)})


def register(b: Browser, name: str) -> None:
    credentials = {"username": name, "password": f"secret of {name}"}
    assert "Log In" in b.post("/auth/register", credentials).text
    assert f"<span>{name}</span>" in b.post("/auth/login", credentials).text


# Flask


def test_flask_hello(flaskr):
    """The first page of the tutorial."""
    assert flaskr.get("/hello").text == "Hello, World!"


def test_flask_registration_and_sessions(flaskr):
    """Register, log in, log out: forms, redirects, flashes, cookies."""
    with Browser(flaskr) as b, Browser(flaskr) as other:
        assert "Register" in b.get("/").text
        assert "required" in b.post("/auth/register", {"username": "", "password": ""}).text
        register(b, "zoë")
        assert "already registered" in other.post("/auth/register", {"username": "zoë", "password": "x"}).text
        assert "Incorrect username or password." in other.post("/auth/login", {"username": "zoë", "password": "x"}).text
        assert "Log In" in other.get("/").text
        assert "Log In" in b.get("/auth/logout").text


def test_flask_blog(flaskr):
    """Write, change, delete; another user may not."""
    with Browser(flaskr) as b, Browser(flaskr) as other:
        assert b.get("/create").text.count("Log In") >= 1  # redirected
        register(b, "one")
        register(other, "two")
        assert "Title is required." in b.post("/create", {"title": "", "body": "x"}).text
        assert "<h1>A title</h1>" in b.post("/create", {"title": "A title", "body": "Ünïcode & <tags>"}).text
        assert "Ünïcode &amp; &lt;tags&gt;" in other.get("/").text
        assert other.post("/1/update", {"title": "taken", "body": ""}).status == 403
        assert other.post("/1/delete", {}).status == 403
        assert b.get("/7/update").status == 404
        assert "<h1>Changed</h1>" in b.post("/1/update", {"title": "Changed", "body": "too"}).text
        assert "Changed" not in b.post("/1/delete", {}).text


def test_flask_upload_and_send_file(flaskr):
    """A picture goes up in a multipart form and comes down through file_wrapper, whole, in part, and not at all (304)."""
    with Browser(flaskr) as b:
        register(b, "painter")
        page = b.post("/create", {"title": "With a picture", "body": "x"}, {"picture": ("p.png", PICTURE)}).text
        source = re.search(r'<img src="([^"]+)"', page)[1]
        answer = b.get(source)
        assert (answer.status, answer.header("Content-Type"), answer.framing) == (200, "image/png", "length")
        assert answer.body == PICTURE
        part = b.get(source, [("Range", "bytes=100-199")])
        assert (part.status, part.body) == (206, PICTURE[100:200])
        assert part.header("Content-Range") == f"bytes 100-199/{len(PICTURE)}"
        unchanged = b.get(source, [("If-None-Match", answer.header("ETag"))])
        assert (unchanged.status, unchanged.body) == (304, b"")
        assert b.get(source).body == PICTURE


def test_flask_static_json_stream_and_error(flaskr):
    """Static files, JSON with an absolute URL, a stream with the request's context, and a view that raises."""
    with Browser(flaskr) as b:
        assert b.get("/static/style.css").body == (APPS / "flaskr" / "static" / "style.css").read_bytes()
        assert json.loads(b.get("/json").text) == {"url": "http://site.example/hello", "ünï": ["cöde", 1, None]}
        register(b, "reader")
        assert b.get("/stream").text == "".join(f"{i} for 1\n" for i in range(5))
        assert b.get("/error").status == 500
        assert b.get("/no/such/page").status == 404
        assert b.get("/hello").status == 200
    flaskr.wait_log("RuntimeError: raised in a view")


@timeout(120)
def test_flask_with_many_users_at_once(flaskr):
    """Users side by side keep their own sessions."""
    errors = []

    def user(number):
        try:
            with Browser(flaskr) as b:
                register(b, f"user{number}")
                for i in range(5):
                    page = b.post("/create", {"title": f"{number}-{i}", "body": "x"}).text
                    assert f"<span>user{number}</span>" in page
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=user, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
    posts = re.findall(r"<h1>(\d-\d)</h1> by user(\d)", flaskr.get("/").text)
    assert len(posts) == 40
    assert all(title[0] == name for title, name in posts)


# Django


def log_in(b: Browser) -> None:
    b.get("/admin/")
    assert "Log in" in b.page.text
    b.post("/admin/login/?next=/admin/", {"username": "admin", "password": "let me in", "next": "/admin/"})
    assert "Site administration" in b.page.text


def add_question(b: Browser, text: str, *choices: str) -> None:
    b.get("/admin/polls/question/add/")
    fields = {
        "question_text": text,
        "pub_date_0": "2024-01-01",
        "pub_date_1": "00:00:00",
        "choice_set-TOTAL_FORMS": "3",
    }
    fields |= {"choice_set-INITIAL_FORMS": "0", "choice_set-MIN_NUM_FORMS": "0", "choice_set-MAX_NUM_FORMS": "1000"}
    for i, choice in enumerate((*choices, "", "", "")[:3]):
        fields |= {
            f"choice_set-{i}-choice_text": choice,
            f"choice_set-{i}-votes": "0",
            f"choice_set-{i}-id": "",
            f"choice_set-{i}-question": "",
        }
    page = b.post("/admin/polls/question/add/", fields).text
    assert "was added successfully" in page


@timeout(120)
def test_django_polls_through_the_admin(mysite):
    """A question is made in the admin, and voted on: sessions, CSRF, forms, redirects, messages."""
    with Browser(mysite) as admin, Browser(mysite) as voter:
        assert "No polls are available." in voter.get("/polls/").text
        log_in(admin)
        add_question(admin, "What's ü?", "Not much", "The sky")
        assert "What&#x27;s ü?" in admin.get("/admin/polls/question/?q=ü".replace("ü", "%C3%BC")).text
        assert "What&#x27;s ü?" in voter.get("/polls/").text
        assert "The sky" in voter.get("/polls/1/").text
        assert "select a choice" in voter.post("/polls/1/vote/", {}).text
        page = voter.post("/polls/1/vote/", {"choice": "2"}).text
        assert "The sky -- 1 vote<" in page and "Not much -- 0 votes<" in page
        voter.get("/polls/1/")
        page = voter.post("/polls/1/vote/", {"choice": "2"}).text
        assert "The sky -- 2 votes<" in page and "2 of them from here" in page
        assert voter.get("/polls/9/").status == 404


@timeout(120)
def test_django_csrf_and_logout(mysite):
    """A form without its token is refused; logging out ends the session."""
    with Browser(mysite) as b, Browser(mysite) as bare:
        assert bare.post("/polls/1/vote/", {"choice": "1"}).status == 403
        log_in(b)
        b.get("/admin/")
        b.post("/admin/logout/", {})
        assert "Log in" in b.get("/admin/").text


@timeout(120)
def test_django_upload_and_file_response(mysite):
    """Files up and down, small (in memory) and large (Django's temporary file); FileResponse uses file_wrapper."""
    with Browser(mysite) as b:
        for data in (b"small", PICTURE, PICTURE * 6):
            b.get("/polls/upload/")
            answer = b.post("/polls/upload/", {}, {"file": ("picture.png", data)})
            assert (answer.status, answer.framing) == (200, "length")
            assert answer.body == data
            assert answer.header("Content-Disposition").startswith("attachment")


@timeout(120)
def test_django_static_stream_and_error(mysite):
    """Static files of the admin and of the site, a stream, and a view that raises."""
    with Browser(mysite) as b:
        assert b.get("/static/polls/style.css").text == "li a { color: green; }\n"
        css = b.get("/static/admin/css/base.css")
        assert css.status == 200 and len(css.body) > 10_000
        unchanged = b.get("/static/polls/style.css", [("If-Modified-Since", css.header("Last-Modified"))])
        assert unchanged.status in (200, 304)
        assert b.get("/polls/stream/").text == "".join(f"line {i}\n" for i in range(5))
        assert b.get("/polls/error/").status == 500
        assert b.get("/polls/error/?ok").text == "ok"
