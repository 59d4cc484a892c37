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
NEEDS = frozenset(("futures", "plain", "process", "log"))


@dataclass(frozen=True)
class Requirement:
    """A numbered sentence of the specification, or a rule of PEP 3333."""

    number: str
    level: str
    """MUST, SHOULD or MAY: the strongest that the text has."""
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

    @property
    def text(self) -> str:
        return (self.run.__doc__ or "").strip()


_cases: dict[str, Case] = {}


def case(
    *requirements: str, needs: Iterable[str] = (), **options: float
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Registers a function as the case of these requirements, under its name with hyphens.

    Cases of the specification need ``futures`` unless they say ``plain``.  Raises ValueError for requirements, needs
    and options that there are not, for a name that is taken, and where the docstring is missing.
    """

    def register(function: Callable[[Trial], None]) -> Callable[[Trial], None]:
        name = function.__name__.replace("_", "-")
        if name in _cases:
            raise ValueError(f"two cases are called {name}")
        if not function.__doc__:
            raise ValueError(f"the case {name} does not say what it is")
        if unknown := sorted({*requirements} - numbers() | {*needs} - NEEDS | options.keys() - OPTIONS.keys()):
            raise ValueError(f"the case {name} names {', '.join(unknown)}, which there is not")
        wanted = set(needs)
        if any(number.startswith("S") for number in requirements) and "plain" not in wanted:
            wanted.add("futures")
        _cases[name] = Case(name, requirements, function, frozenset(wanted - {"plain"}), options)
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


def level(text: str) -> str:
    return next((word for word in ("MUST", "SHOULD", "MAY") if re.search(rf"\b{word}\b", text)), "")


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
