"""The requirements and the cases: what there is to conform to, and what shows it."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .launcher import OPTIONS
from .pep3333 import RULES

if TYPE_CHECKING:
    from .trial import Trial

__all__ = ["SPEC", "Case", "Requirement", "all_cases", "case", "requirements"]

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent / "wsgi-plus.md"

REQUIREMENT = re.compile(r"^- \*\*(S\d+\.\d+)\*\* ", re.M)
ENDS = re.compile(r"^(?:- \*\*S\d|#)", re.M)  # what follows a requirement
BORROWED = {"S8.6": ("SHOULD",)}  # it says where S8.5, which is one, applies
NEEDS = frozenset(("futures", "plain", "process", "log"))


@dataclass(frozen=True)
class Requirement:
    """A numbered sentence of the specification, or a rule of PEP 3333."""

    number: str
    level: str
    """MUST, SHOULD or MAY: the strongest that the text has, unless it is that of some of its cases."""
    text: str

    @property
    def pep(self) -> bool:
        return self.number.startswith("P")


@dataclass(frozen=True)
class Case:
    """One thing that is tried.  ``run`` raises Failed or NotSupported, and anything else is a failure as well."""

    name: str
    requirements: tuple[str, ...]
    run: Callable[[Trial], None]
    needs: frozenset[str] = frozenset()
    """``futures``: a server that suspends; ``process``: one that the suite has started; ``log``: what it writes."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Settings of the server for this case: see launcher.Settings."""
    levels: Mapping[str, str] = field(default_factory=dict)
    """Of the requirements of which it shows a sentence with a weaker word than their strongest: that word."""

    @property
    def text(self) -> str:
        return (self.run.__doc__ or "").strip()


_cases: dict[str, Case] = {}


def case(
    *requirements: str,
    needs: Iterable[str] = (),
    should: Iterable[str] = (),
    may: Iterable[str] = (),
    **options: float,
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Registers a function as the case of these requirements, under its name with hyphens.

    A case is judged by the strongest word of its requirement, unless that is named in ``should`` or ``may``: then what
    it shows is what the requirement says with that word.  Cases of the specification need ``futures`` unless they say
    ``plain``.  Raises ValueError for requirements, words, needs and options that there are not, for a name that is
    taken, and where the docstring is missing.
    """
    levels = {**dict.fromkeys(should, "SHOULD"), **dict.fromkeys(may, "MAY")}

    def register(function: Callable[[Trial], None]) -> Callable[[Trial], None]:
        name = function.__name__.replace("_", "-")
        if name in _cases:
            raise ValueError(f"two cases are called {name}")
        if not function.__doc__:
            raise ValueError(f"the case {name} does not say what it is")
        if unknown := sorted({*requirements} - numbers() | {*needs} - NEEDS | options.keys() - OPTIONS.keys()):
            raise ValueError(f"the case {name} names {', '.join(unknown)}, which there is not")
        for number, word in levels.items():
            if number not in requirements or not is_weaker(number, word):
                raise ValueError(f"the case {name} shows no {word} of {number} that is weaker than the rest of it")
        wanted = set(needs)
        if any(number.startswith("S") for number in requirements) and "plain" not in wanted:
            wanted.add("futures")
        _cases[name] = Case(name, requirements, function, frozenset(wanted - {"plain"}), options, levels)
        return function

    return register


def all_cases() -> list[Case]:
    """Every case, in the order of the modules and in them."""
    from . import cases

    for module in sorted(info.name for info in pkgutil.iter_modules(cases.__path__)):
        importlib.import_module(f"{cases.__name__}.{module}")
    return list(_cases.values())


@functools.cache
def numbers() -> frozenset[str]:
    return frozenset(requirement.number for requirement in requirements())


@functools.cache
def levels() -> Mapping[str, tuple[str, ...]]:
    """By number: the words of the requirement, the strongest first."""
    return {requirement.number: words(requirement.text) for requirement in requirements()}


def is_weaker(number: str, word: str) -> bool:
    """Whether the requirement has that word, or that of another to which it points, beside a stronger one."""
    return word in levels()[number][1:] or word in BORROWED.get(number, ())


def words(text: str) -> tuple[str, ...]:
    return tuple(word for word in ("MUST", "SHOULD", "MAY") if re.search(rf"\b{word}\b", text))


def level(text: str) -> str:
    return (*words(text), "")[0]


def requirements() -> list[Requirement]:
    """Those of the specification, and then those of PEP 3333."""
    spec = SPEC.read_text(encoding="utf-8")
    found = []
    for match in REQUIREMENT.finditer(spec):
        end = ENDS.search(spec, match.end())
        text = spec[match.end() : end.start() if end else None]
        text = re.split(r"\*(?:Why|Cases):\*", " ".join(text.split()))[0].strip()
        found.append(Requirement(match[1], level(text), text))
    return found + [Requirement(number, level(text), text) for number, text in RULES.items()]
