"""scripts/conformance: runs the conformance suite of WSGI+ against a server.

    scripts/conformance --server 'fermata --bind {host}:{port} {app}'
    scripts/conformance --url http://127.0.0.1:8000/ --control 127.0.0.1:9000
    scripts/conformance --known fermata

Prints a line a requirement as soon as its cases have been tried: pass, fail, or not supported.  Exits 0 if no MUST fails,
1 if one does, 2 on wrong usage or if there is no server.  SIGTERM and SIGINT end it early: it says what it has, and ends
the servers that it has started.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import shlex
import signal
import string
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from . import results
from .document import with_cases
from .launcher import OPTIONS, PLACEHOLDERS, CannotStart, Settings
from .registry import SPEC, Case, all_cases, requirements
from .report import Lines, by_requirement, document, verdict
from .runner import FAIL, Result, run
from .servers import KNOWN

SETTINGS = {
    "server": "the command, with {host}, {port} and {app} (or {module} and {callable}), perhaps {options} and {log}",
    "url": "a server that runs already, with spec/conformance/apps/conformance_app.py: http://HOST:PORT/",
    "control": "with --url: the CONFORMANCE_CONTROL that it was started with, HOST:PORT or a path",
    "deadline": "its option for a request's deadline, such as '--request-timeout {seconds}'",
    "drain": "its option for the graceful timeout, such as '--graceful-timeout {seconds}'",
    "send_timeout": "its option for clients that take nothing, such as '--send-timeout {seconds}'",
    "keep_alive": "its option for how long an idle connection is kept, such as '--keep-alive {seconds}'",
    "body_limit": "its option for the largest body, such as '--limit-request-body {bytes}'",
    "threads": "its option for the number of threads, such as '--threads {n}'",
    "half_close": "its option that lets clients half-close, such as '--allow-half-close'",
    "parked": "a command that prints how many requests are parked; may use {host}, {port}, {extra_port}, {pid}, {log} "
    "and {what}: future or client",
    "log": "the file that it writes its log to, if that is not its standard output",
    "helper": "MODULE:FUNCTION that makes a plain application of a WSGI+ application (S17)",
    "validator": "MODULE:FUNCTION that is called with an application and middleware, and names what loses futures (S15.9)",
    "middleware": "MODULE:FACTORY to put around the applications: with a server that conforms this examines it",
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="scripts/conformance",
        description="Runs the conformance suite of WSGI+ against a server.",
        epilog="Exits 0 if no MUST fails, 1 if one does, 2 if there is nothing to examine, 143 if SIGTERM ends it early.",
    )
    for name, text in SETTINGS.items():
        made.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper().replace("_", "-"), help=text)
    made.add_argument(
        "--path", action="append", default=[], metavar="DIR", help="a directory for the server's PYTHONPATH"
    )
    made.add_argument("--known", metavar="NAME", help=f"a server that is known here: {', '.join(KNOWN)}")
    made.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WHAT",
        help="a requirement (S5, S5.1, P9) or a case's name; repeatable",
    )
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="servers to use side by side [1]")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    made.add_argument("--list", action="store_true", help="list the cases and end")
    made.add_argument("-v", "--verbose", action="store_true", help="say each case as it is done")
    made.add_argument(
        "--spec",
        choices=["check", "write"],
        help="only look whether the specification names its cases, or have it do so",
    )
    made.add_argument(
        "--results",
        choices=["check", "write", "run"],
        help="results.md: look at it, write it anew, or run all known servers first, or the one of --known",
    )
    return made


def joined(words: list[str]) -> list[str]:
    """The command line with settings as --name=value: the value may begin with hyphens, as options of servers do."""
    found: list[str] = []
    for word in words:
        if found and found[-1][2:].replace("-", "_") in SETTINGS and found[-1][:2] == "--":
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def chosen(cases: list[Case], only: list[str]) -> list[Case]:
    """Those that are asked for by requirement, its first part, or name.  Raises ValueError for what there is none."""

    def names(case: Case) -> set[str]:
        return {case.name, *case.requirements, *(number.partition(".")[0] for number in case.requirements)}

    unknown = [word for word in only if not any(word in names(case) for case in cases)]
    if unknown:
        raise ValueError(", ".join(unknown))
    return [case for case in cases if not only or not names(case).isdisjoint(only)]


def wrong(option: str, value: str) -> str:
    """What is wrong with a setting that the suite puts values into; nothing if it is right."""
    known = PLACEHOLDERS[option]
    try:
        shlex.split(value)
        found = {field for _, field, _, _ in string.Formatter().parse(value) if field is not None}
    except ValueError as error:
        return str(error)
    if unknown := sorted(found.difference(known)):
        return f"{{{unknown[0]}}} is not known: {', '.join(f'{{{name}}}' for name in known) or 'it takes none'}"
    needed = ("port",) if option == "server" else known if option in OPTIONS else ()
    if needed and found.isdisjoint(needed):
        return f"{{{needed[0]}}} is missing, which stands for a value that the suite chooses"
    return ""


def is_url(text: str) -> bool:
    """Whether it says where a server is, and no more."""
    parts = urlsplit(text)
    try:
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
    except ValueError:  # of the port
        return False


def settings_of(options: argparse.Namespace, error: Callable[[str], object]) -> Settings:
    """What the command line says of the server; ``error`` ends the program."""
    if sum(value is not None for value in (options.server, options.url, options.known)) != 1:
        error("one of --server, --url and --known is needed")
    if options.known and options.known not in KNOWN:
        error(f"--known: one of {', '.join(KNOWN)}, not {options.known}")
    for option in PLACEHOLDERS:
        value = getattr(options, option)
        if value is not None and (why := wrong(option, value)):
            error(f"--{option.replace('_', '-')}: {why}")
    for option in ("helper", "validator", "middleware"):
        value = getattr(options, option)
        if value is not None and not re.fullmatch(r"[\w.]+:[\w.]+", value):
            error(f"--{option}: MODULE:NAME, and not {value}")
    if options.url is not None and not is_url(options.url):
        error(f"--url: http://HOST:PORT/, and not {options.url}")
    if options.url is None and options.control is not None:
        error("--control: only with --url; a server that is started here is told where")
    if options.jobs < 1:
        error(f"--jobs: at least 1, and not {options.jobs}")
    settings = KNOWN[options.known].settings() if options.known else Settings()
    given = {field.name: getattr(options, field.name, None) for field in fields(Settings)}
    settings = replace(settings, **{key: value for key, value in given.items() if value})
    return replace(settings, paths=(*settings.paths, *(str(Path(path).resolve()) for path in options.path)))


def main() -> int:
    made = parser()
    options = made.parse_args(joined(sys.argv[1:]))
    cases = all_cases()
    try:
        cases = chosen(cases, options.only)
    except ValueError as unknown:
        made.error(f"--only: no case for {unknown}: a requirement (S5, S5.1, P9) or a name from --list")
    if options.json and not options.json.absolute().parent.is_dir():
        made.error(f"--json: {options.json.parent} is no directory")
    if options.list:
        for case in cases:
            print(f"{case.name:44} {', '.join(case.requirements):20} {case.text.splitlines()[0]}")
        return 0
    if options.spec:
        return spec(options.spec, write=options.spec == "write")
    if options.results:
        return results.main(options.results, [options.known] if options.known else list(KNOWN))

    lines, found = Lines(cases), list[Result]()

    def report(result: Result) -> None:
        found.append(result)
        if options.verbose:
            print(f"{result.result:14} {result.name}", flush=True)
        for line in lines.add(result):
            print(line, flush=True)

    ended = None
    try:
        settings = settings_of(options, made.error)
        with ended_by(signal.SIGTERM, signal.SIGINT) as look:
            run(settings, cases, report, jobs=1 if options.url else options.jobs, look=look)
    except CannotStart as why:
        print(f"scripts/conformance: there is no server: {why}", file=sys.stderr)
        return 2
    except Ended as by:
        ended = by.number
    print("\n".join(lines.end()), flush=True)
    if options.json:
        known = KNOWN.get(options.known)
        name, version = (known.name, known.find_version()) if known else (options.server or options.url, "")
        options.json.write_text(json.dumps(document(found, server=name, version=version), indent=2) + "\n")
    if ended is not None:
        return 128 + ended
    musts = [req for req, those in by_requirement(found).items() if req.level == "MUST" and verdict(those) == FAIL]
    return 1 if musts else 0


class Ended(BaseException):
    """A signal has come."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ended_by(*numbers: int) -> Iterator[Callable[[], None]]:
    """Gives what raises Ended when the first of these signals has come; they do nothing else until the end of the block.

    An exception out of a handler would be raised wherever the main thread is just then, if it is woken up at all: the
    signal may come in another thread.
    """
    came: list[int] = []

    def look() -> None:
        if came:
            raise Ended(came[0])

    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield look
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def spec(what: str, *, write: bool) -> int:
    old = SPEC.read_text(encoding="utf-8")
    new = with_cases(old, all_cases())
    if write:
        SPEC.write_text(new, encoding="utf-8")
    elif old != new:
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "there", "wanted", n=1))
    covered = {number for case in all_cases() for number in case.requirements}
    without = [req.number for req in requirements() if req.number not in covered]
    if without:
        print(f"without a case: {', '.join(without)}")
    return 1 if without or (not write and old != new) else 0


if __name__ == "__main__":
    sys.exit(main())
