"""The frame of the conformance suite (spec/conformance): its registry, what a case says, and the report."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest
from conformance.check import LONG, Failed, eventually, holds, never, same
from conformance.launcher import FreePort
from conformance.registry import all_cases, case, level, requirements
from conformance.report import Lines, document
from conformance.runner import FAIL, PASS, SKIP, Result
from conformance_parts import HERE, asks, made, shown

# Ports


def test_a_port_is_given_to_one_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to another before it is given back, although no server listens there yet; and not where one listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first, spare = FreePort(), FreePort()
        spare.release()
        offered = [taken.getsockname()[1], first.number, first.number, spare.number, first.number]
        monkeypatch.setattr("random.randrange", lambda *_: offered.pop(0))
        second = FreePort()
        assert (second.number, len(offered)) == (spare.number, 1)
        first.release()
        third = FreePort()
        assert third.number == first.number
        second.release()
        third.release()


# The registry


@pytest.mark.parametrize(
    ("numbers", "more", "said"),
    [
        (("S99.1",), {}, "S99.1"),
        (("S1.1", "S1.99"), {}, "S1.99"),
        (("S1",), {}, "S1"),
        (("P0",), {}, "P0"),
        (("P1",), {"needs": ["threads"]}, "threads"),
        (("P1",), {"deadlin": 1}, "deadlin"),
    ],
)
def test_registry_refuses_what_there_is_not(numbers: tuple[str, ...], more: dict[str, Any], said: str) -> None:
    before = [found.name for found in all_cases()]
    with pytest.raises(ValueError, match=rf"the case shown names {re.escape(said)}, which there is not"):
        case(*numbers, **more)(shown)
    assert [found.name for found in all_cases()] == before


def test_registry_refuses_a_name_twice() -> None:
    taken = all_cases()[0].run
    with pytest.raises(ValueError, match="two cases are called"):
        case("P1")(taken)


def test_registry_refuses_a_case_that_says_nothing() -> None:
    def silent(t: Any) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="the case silent does not say what it is"):
        case("P1")(silent)


@pytest.mark.parametrize(
    ("text", "strongest"),
    [("a MAY b MUST NOT c", "MUST"), ("a SHOULD, and MAY", "SHOULD"), ("MAY", "MAY"), ("MUSTY may", ""), ("", "")],
)
def test_level_is_the_strongest_word(text: str, strongest: str) -> None:
    assert level(text) == strongest


def test_requirements_are_those_of_the_specification() -> None:
    """Each has a level, a text without its reason, and a number of its own; the rules are counted from 1."""
    found = {requirement.number: requirement for requirement in requirements()}
    assert len(found) == len(requirements())
    assert list(found)[0] == "S1.1"
    assert {number: found[number].level for number in ("S1.1", "S1.4", "S1.7", "S5.8", "P5", "P12")} == {
        "S1.1": "MUST", "S1.4": "SHOULD", "S1.7": "MAY", "S5.8": "MUST", "P5": "MUST", "P12": "SHOULD",
    }  # fmt: skip
    assert [r.number for r in found.values() if r.level not in ("MUST", "SHOULD", "MAY")] == []
    assert [r.number for r in found.values() if "Why" in r.text or "Cases" in r.text or not r.text] == []
    assert found["S4.1"].text.startswith("The server MUST resume by plain iteration")
    rules = [number for number in found if number.startswith("P")]
    assert rules == [f"P{number}" for number in range(1, len(rules) + 1)]


def test_every_requirement_has_a_case() -> None:
    covered = {number for found in all_cases() for number in found.requirements}
    assert [requirement.number for requirement in requirements() if requirement.number not in covered] == []


def test_every_application_is_asked_for() -> None:
    """No module of applications without cases, nor the other way round."""
    cases = {path.stem for path in (HERE / "cases").glob("*.py")} - {"__init__"}
    apps = {path.stem for path in (HERE / "apps").glob("*.py") if re.fullmatch(r"s\d\d|pep3333_\w+", path.stem)}
    assert cases - apps == set()
    assert apps - cases == set()


# What a case says


def test_same_says_both() -> None:
    same(1, 1, "never said")
    with pytest.raises(Failed, match="^the number: 2 was to be expected, and not 1$"):
        same(1, 2, "the number")


def test_long_values_are_cut() -> None:
    with pytest.raises(Failed) as caught:
        same("x" * 10_000, "", "the text")
    assert len(str(caught.value)) < 400


def test_holds_and_never_and_eventually() -> None:
    holds([1], "never said")
    with pytest.raises(Failed, match="^it is so$"):
        holds([], "it is so")
    never(lambda: 0, "never said", during=0.01)
    with pytest.raises(Failed, match="^it came: 5$"):
        never(lambda: 5, "it came", during=LONG)
    turns = iter([0, 0, 7])
    assert eventually(lambda: next(turns), "never said") == 7
    with pytest.raises(Failed, match="^it comes: not within 0.01 s$"):
        eventually(lambda: 0, "it comes", within=0.01)


# The report


def said_of(*found: Result, of: int = 0) -> list[str]:
    """The lines of a run of these, and of so many cases more that have not been tried."""
    cases = [made(result.name, asks, requirements=result.requirements, levels=result.levels) for result in found]
    lines = Lines([*cases, *(made(f"untried-{number}", asks, requirements=("S1.1",)) for number in range(of))])
    return [line for result in found for line in lines.add(result)] + lines.end()


def test_lines() -> None:
    """A requirement is said when its last case has been tried, with its failures; why not, once, at the end."""
    assert said_of(
        Result("one", ("S1.1",), PASS),
        Result("alone", ("P1",), SKIP, "needs --other"),
        Result("two", ("S1.1", "S1.4"), FAIL, "first line\nsecond line"),
        *(Result(f"skipped-{number}", ("S1.7",), SKIP, "needs --more") for number in range(3)),
    ) == [
        "P1     MUST   not supported  alone",
        "S1.1   MUST   FAIL           one, two",
        "       two: first line",
        "       two: second line",
        "S1.4   SHOULD FAIL           two",
        "       two: first line",
        "       two: second line",
        "S1.7   MAY    not supported  skipped-0, skipped-1, skipped-2",
        "",
        "not supported: needs --other (alone)",
        "not supported: needs --more (3 cases)",
        "",
        "MUST fails: S1.1",
        "SHOULD fails: S1.4",
        "WSGI+: 0 pass, 2 fail, 1 not supported",
        "PEP 3333: 0 pass, 0 fail, 1 not supported",
    ]


def test_lines_of_a_run_that_was_ended() -> None:
    """What has been tried of a requirement is said then."""
    assert said_of(Result("one", ("S1.1",), PASS), of=2) == [
        "S1.1   MUST   pass           one",
        "",
        "WSGI+: 1 pass, 0 fail, 0 not supported",
        "ended early: 2 of 3 cases have not been tried",
    ]


def test_a_weaker_word_is_judged_by_itself() -> None:
    """A requirement with a MUST and a SHOULD is two: what fails of one does not fail the other."""
    strong = Result("strong", ("S12.4",), PASS)
    weak = Result("weak", ("S12.4", "S1.4"), FAIL, "not so", levels={"S12.4": "SHOULD"})
    assert said_of(strong, weak) == [
        "S12.4  MUST   pass           strong",
        "S12.4  SHOULD FAIL           weak",
        "       weak: not so",
        "S1.4   SHOULD FAIL           weak",
        "       weak: not so",
        "",
        "SHOULD fails: S1.4, S12.4",
        "WSGI+: 1 pass, 2 fail, 0 not supported",
    ]
    said = document([strong, weak], server="", version="")
    assert said["requirements"]["S12.4"] == {"level": "MUST", "result": PASS, "weaker": {"SHOULD": FAIL}}
    assert [found.get("levels") for found in said["cases"]] == [None, {"S12.4": "SHOULD"}]
    alone = document([weak], server="", version="")
    assert alone["requirements"]["S12.4"] == {"level": "SHOULD", "result": FAIL}


@pytest.mark.parametrize(
    "how",
    [{"should": ["S1.2"]}, {"should": ["S1.1"]}, {"may": ["S1.4"]}, {"should": ["S12.1"]}],
    ids=["of-another", "no-such-word", "neither", "no-weaker"],
)
def test_registry_refuses_words_that_there_are_not(how: dict[str, list[str]]) -> None:
    def shows_much(t: Any) -> None:
        """What it shows."""

    with pytest.raises(ValueError, match=r"the case shows-much shows no (SHOULD|MAY) of S\S+ that is weaker"):
        case("S1.1", "S1.4", "S12.1", **how)(shows_much)
