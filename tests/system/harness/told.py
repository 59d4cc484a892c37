"""What files say how a site is started: units of systemd, Procfiles, Dockerfiles; and how that is done in a test."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from .server import virtualenv


def unit(text: str) -> dict[str, str]:
    """The settings of a unit of systemd, the last one of each name."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return {name: value.strip() for name, equals, value in (line.partition("=") for line in lines) if equals and name[0] != "#"}


def exec_start(text: str, places: Mapping[str, str] = {}) -> list[str]:
    """The words of a unit's ExecStart=, the program left out, with places of ours in them."""
    program, *words = shlex.split(unit(text)["ExecStart"])
    assert program == "/usr/local/bin/fermata"
    return here(words, places)


def procfile(text: str, name: str = "web") -> list[str]:
    """The words of a line of a Procfile."""
    (line,) = re.findall(rf"^{name}: (.+)$", text, re.MULTILINE)
    return shlex.split(line)


def dockerfile(text: str) -> list[tuple[str, str]]:
    """The instructions of its last stage."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    found = [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]
    last = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def docker_command(text: str) -> list[str]:
    """CMD, which has to be a list: a shell would keep signals for itself."""
    (command,) = [rest for name, rest in dockerfile(text) if name == "CMD"]
    words = json.loads(command)
    assert isinstance(words, list)
    return words


def here(words: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """The words with these places in place of theirs (each has to be in one of them), and the tests' virtual environment."""
    found = list(words)
    for old, new in places.items():
        assert any(old in word for word in found), (old, found)
        found = [word.replace(old, new) for word in found]
    if "--venv" in found:
        found[found.index("--venv") + 1] = virtualenv()
    return found


def examples_of(page: Path) -> list[list[str]]:
    """The commands that a page shows in lines of their own: those that begin with `fermata`, or `$ fermata`."""
    lines = re.sub(r"\\\n\s*", " ", page.read_text()).splitlines()
    return [shlex.split(line) for line in lines if line.startswith("    fermata ")]
