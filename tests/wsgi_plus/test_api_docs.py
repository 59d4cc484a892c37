"""spec/manual/api is what scripts/api-docs makes of the docstrings, and it makes the right thing of them."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from harness.limits import LONG, ROOT

SCRIPT = ROOT / "scripts" / "api-docs"
PAGES = ROOT / "spec" / "manual" / "api"

SPEC = """
### S1. What suspends
- **S1.1** Something.
### S12. Deadlines, and so on
"""

PACKAGE = {
    "__init__.py": '''
        """What it is (S1).

        It is <this> and *that*, S1.1; ``code <here>, S1``:

            S1 as it is <here>

        And so on.
        """
        from . import other
        from ._a import one as first, One
        from ._b import thing

        __all__ = ["LIMIT", "One", "first", "local", "thing"]

        LIMIT = 3
        """How many."""

        def local(a, /, b: int = 1, *args: str, c: "list[int]", d: float = 0.5, **rest: object) -> None:
            """Here."""

        def not_shown(): ...
    ''',
    "_a.py": '''
        from typing import overload

        @overload
        def one(x: int) -> int: ...
        @overload
        def one(x: str) -> str: ...
        def one(x):
            """First line
            goes on.

            More.
            """

        class Base: ...

        class One(Base):
            """Many."""

            MANY, FEW = 3, 1 << 2
            _private = 4

            def __init__(self, parameter_number_one: int, *, parameter_number_two: str = "two", parameter_number_three: None = None) -> None:
                ...

            @property
            def size(self) -> int:
                """How large."""

            @size.setter
            def size(self, value: int) -> None: ...

            @classmethod
            async def make(cls, n: int = 1) -> "One":
                """Makes one."""

            def _private(self): ...
            def __len__(self): ...
    ''',
    "_b.py": "from .other import thing",
    "other.py": '''
        """The other."""
        from dataclasses import dataclass

        from wsgi_plus import local

        __all__ = ["local", "thing"]

        @dataclass(frozen=True)
        class thing:
            """A thing."""

            a: int
            b: str = ""
            _c: int = 0
    ''',
}


@pytest.fixture
def script() -> Any:
    """The script as a module."""
    module = types.ModuleType("api_docs")
    module.__file__ = str(SCRIPT)
    exec(compile(SCRIPT.read_text(), str(SCRIPT), "exec"), module.__dict__)
    return module


@pytest.fixture
def package(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """package(name=text): PACKAGE with some files of another text, read by the script."""
    monkeypatch.setattr(script, "MODULES", ["wsgi_plus", "wsgi_plus.other"])
    folder = tmp_path / "py" / "wsgi_plus"
    folder.mkdir(parents=True)

    def make(changed: tuple[str, str, str] | None = None) -> Any:
        for name, text in PACKAGE.items():
            if changed is not None and changed[0] == name:
                assert changed[1] in text
                text = text.replace(*changed[1:])
            (folder / name).write_text(re.sub("^        ", "", text, flags=re.MULTILINE).lstrip())
        return script.Package(tmp_path / "py", SPEC)

    return make


def test_the_pages_are_current() -> None:
    ran = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, timeout=LONG)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), f"make docs\n{ran.stdout}{ran.stderr}"


def test_the_pages_are_the_same_on_every_python() -> None:
    found = subprocess.run([ROOT / "scripts" / "pythons"], capture_output=True, text=True, timeout=LONG).stdout.split()
    for python in found:
        assert subprocess.run([python, SCRIPT, "--check"], capture_output=True, timeout=LONG).returncode == 0, python


def test_links_lead_somewhere() -> None:
    for page in PAGES.glob("*.md"):
        for path, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {path}"
            headings = [
                re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            ]
            assert not heading or heading in headings, f"{page.name}: {path}#{heading}"


def test_a_page(package: Any) -> None:
    assert package().page("wsgi_plus").split("\n\n", 1)[1] == PAGE


PAGE = """\
What it is ([S1](../../wsgi-plus.md#s1-what-suspends)).

It is &lt;this> and \\*that\\*, [S1.1](../../wsgi-plus.md#s1-what-suspends); ``code <here>, S1``:

    S1 as it is <here>

And so on.

| | |
|---|---|
| [`LIMIT`](#limit) | How many. |
| [`One`](#one) | Many. |
| [`first`](#first) | First line goes on. |
| [`local`](#local) | Here. |
| [`thing`](#thing) | A thing. |

## LIMIT

```python
LIMIT = 3
```

How many.

## One

```python
class One(Base):
    MANY, FEW = (3, 1 << 2)

One(
    parameter_number_one: int,
    *,
    parameter_number_two: str = 'two',
    parameter_number_three: None = None,
)
```

Many.

### One.size

```python
size: int
```

How large.

### One.make

```python
@classmethod
async make(n: int = 1) -> One
```

Makes one.

## first

```python
first(x: int) -> int
first(x: str) -> str
```

First line
goes on.

More.

## local

```python
local(a, /, b: int = 1, *args: str, c: list[int], d: float = 0.5, **rest: object) -> None
```

Here.

## thing

```python
@dataclass(frozen=True)
class thing:
    a: int
    b: str = ''
```

A thing.
"""


def test_what_the_package_has_is_described_there(package: Any) -> None:
    page = package().page("wsgi_plus.other")
    assert page.count("The same as [`wsgi_plus.") == 2
    assert "```" not in page


def test_index(package: Any) -> None:
    assert "| [`wsgi_plus.other`](wsgi_plus.other.md) | The other. |\n" in package().pages()["README.md"]


@pytest.mark.parametrize(
    ("name", "text", "instead", "said"),
    [
        ("__init__.py", '"""Here."""', "pass", r"__init__.py:\d+: local has no docstring"),
        ("_a.py", '"""Many."""', "pass", r"_a.py:\d+: One has no docstring"),
        ("_a.py", '"""Makes one."""', "pass", r"_a.py:\d+: One.make has no docstring"),
        ("_a.py", '"""How large."""', "pass", r"_a.py:\d+: One.size has no docstring"),
        ("_a.py", '"""Many."""', '"""Many (S2)."""', "the specification has no S2"),
        ("_a.py", '"""Many."""', '"""Many (S1.2)."""', r"the specification has no S1\.2"),
        ("other.py", '"""The other."""', "", "other.py:1: wsgi_plus.other has no docstring"),
        ("other.py", "__all__", "all", "other.py: no __all__"),
        ("__init__.py", '"local", "thing"', '"local", "nothing"', "__init__.py: there is no nothing"),
    ],
)
def test_error(package: Any, script: Any, name: str, text: str, instead: str, said: str) -> None:
    with pytest.raises(script.Missing, match=said):
        package((name, text, instead)).pages()


def test_check_writes_nothing_and_writing_does(
    package: Any, script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package()
    pages, spec = tmp_path / "api", tmp_path / "spec.md"
    spec.write_text(SPEC)
    for name, value in {"SOURCE": tmp_path / "py", "SPEC": spec, "PAGES": pages}.items():
        monkeypatch.setattr(script, name, value)

    def run(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", ["api-docs", *options])
        code: int = script.main()
        return code

    assert run("--check") == 1
    assert not pages.exists()
    assert run() == 0
    assert sorted(path.name for path in pages.iterdir()) == ["README.md", "wsgi_plus.md", "wsgi_plus.other.md"]
    capsys.readouterr()
    assert (run("--check"), capsys.readouterr().out) == (0, "")
    (pages / "wsgi_plus.md").write_text((pages / "wsgi_plus.md").read_text().replace("Many.", "Few.", 1))
    (pages / "old.md").write_text("old\n")
    assert run("--check") == 1
    assert re.findall(r"^[-+]\S.*Few.*|^-old$", capsys.readouterr().out, re.MULTILINE)
    assert run() == 0
    assert (run("--check"), (pages / "old.md").exists()) == (0, False)
    package(("_a.py", '"""Many."""', "pass"))
    assert run() == 1
    assert "One has no docstring" in capsys.readouterr().err
