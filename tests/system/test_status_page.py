"""The status page in a browser: light, dark, without script, live, and with paths that would do harm."""

from __future__ import annotations

import contextlib
import html
import re
import shutil
import subprocess
import urllib.request
import zlib

import pytest
from harness.client import build
from harness.limits import LONG, eventually, timeout
from harness.workers import wait_ready

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    timeout(240),
]


class Browser:
    def __init__(self, directory, url):
        self.directory, self.url = directory, url

    def run(self, *options):
        """What it prints, and what it has to complain about."""
        done = subprocess.run(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--enable-logging=stderr", "--hide-scrollbars", f"--user-data-dir={self.directory}/profile", *options, self.url,
            ],
            capture_output=True, text=True, timeout=LONG * 4,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, re.findall(r".*(?:CONSOLE|Refused|violates).*", done.stderr)

    def dom(self, *options):
        text, complaints = self.run("--dump-dom", *options)
        assert complaints == []
        return text

    def screenshot(self, name, *options):
        """Red, green and blue of the first pixel, which is background."""
        file = self.directory / f"{name}.png"
        self.run(f"--screenshot={file}", "--window-size=1100,760", *options)
        data, at, packed = file.read_bytes(), 8, b""
        while at < len(data):  # PNG: chunks of a length, a name, data and a checksum
            length = int.from_bytes(data[at : at + 4], "big")
            if data[at + 4 : at + 8] == b"IDAT":
                packed += data[at + 8 : at + 8 + length]
            at += 12 + length
        return tuple(zlib.decompress(packed)[1:4])


@pytest.fixture
def browser(launch, tmp_path):
    """A browser at the page of a server in which a few requests wait."""
    server = launch("places", "--threads", "2", "--keep-alive", "60", admin=True)
    address = "http://{}:{}/".format(*server.admin_address())
    targets = [
        "/deep/<script>document.title='taken'</script>",
        "/deep/%1b[31m&quot;'",
        *["/wide?n=1"] * 3,
        "/shape/closing",
    ]
    with contextlib.ExitStack() as stack:
        for target in targets:
            c = stack.enter_context(server.connect(timeout=LONG))
            c.send(build("GET", target))
        server.admin.wait_in_flight("parked_future", len(targets), within=LONG)
        yield Browser(tmp_path, address)
        server.get("/go")


def test_it_is_live(browser):
    """Its script runs, asks again, and nothing is complained about: its policy fits."""
    text = browser.dom("--virtual-time-budget=5000")
    assert '<p id="live">live</p>' in text
    assert "places.py" in text and "wide" in text


def test_of_a_worker(launch, tmp_path):
    """?worker=N stays in what the script asks for; the page of all links to each."""
    server = launch("places", "--workers", "2", admin=True)
    wait_ready(server, 2)
    address = "http://{}:{}/".format(*server.admin_address())
    text = Browser(tmp_path, f"{address}?worker=1").dom("--virtual-time-budget=5000")
    assert '<p id="live">live</p>' in text and "worker 1: " in text and "worker 0" not in text
    assert '<a href="/">all workers</a>' in text
    text = Browser(tmp_path, address).dom("--virtual-time-budget=5000")
    assert '<p id="live">live</p>' in text
    assert re.findall(r'<a href="/\?worker=(\d)">worker \1</a>', text) == ["0", "1"]


def test_without_script(browser):
    """It is complete as it comes: the script replaces it by another one of the same kind, and adds nothing but a word.
    (Headless Chromium needs script itself to tell what it shows.)"""

    def told():
        """The page, once Python has said what they wait for: the first may come without."""
        with urllib.request.urlopen(browser.url, timeout=LONG) as answer:
            page = answer.read().decode()
        return re.search(r"\d of \d: Future", page) and page

    sent = eventually(told, "it is told what they wait for", within=LONG)
    shown = browser.dom("--virtual-time-budget=5000")

    def words(page):
        """What is to be read in it below its first lines, without what time changes."""
        (main,) = re.findall(r'<div class="?states.*?</main>', page, re.S)
        return [html.unescape(word) for word in re.sub(r"<[^>]*>", " ", main).split() if not re.search(r"\d", word)]

    assert "<p id=live></p>" in sent
    assert words(sent)[:40] == words(shown)[:40] and "wide" in words(sent)


def test_paths_do_no_harm(browser):
    """What looks like a script is text."""
    text = browser.dom("--virtual-time-budget=5000")
    assert "<title>places - fermata</title>" in text
    assert "&lt;script&gt;document.title" in text
    assert text.count("<script>") == 1 and "\x1b" not in text


def test_light_and_dark(browser):
    """As the browser is."""
    light = browser.screenshot("light", "--blink-settings=preferredColorScheme=1")
    dark = browser.screenshot("dark", "--blink-settings=preferredColorScheme=0")
    assert min(light) > 200 and max(dark) < 60
