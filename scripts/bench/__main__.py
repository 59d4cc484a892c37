"""The command line of the benchmarks; scripts/bench/run calls it."""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

from . import report, suite, venv
from .measure import Options
from .paths import BUILD, RESULTS, ROOT
from .peers import FERMATA, PEERS
from .workloads import QUICK_PEERS, QUICK_WORKLOADS, WORKLOADS

NEEDED = (f"{BUILD}/limit", f"{BUILD}/load", f"{BUILD}/upstream")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="scripts/bench/run",
        description="Measures Fermata and its peers. `make bench` installs and builds what is needed, and runs all.",
    )
    p.add_argument("--list", action="store_true", help="say which workloads and peers there are")
    p.add_argument("--workloads", metavar="NAME,...", help="only these; a name may end with * [all]")
    p.add_argument("--peers", metavar="NAME,...", help="only these [those that the workload has]")
    p.add_argument("--rounds", type=int, metavar="N", help="rounds, interleaved [5]")
    p.add_argument("--seconds", type=float, metavar="S", help="time measured in a round [3]")
    p.add_argument("--repeats", type=int, metavar="N", help="how often a disturbed measurement is repeated at most [3]")
    p.add_argument("--wrk-threads", type=int, default=1, metavar="N", help="threads of wrk [1]")
    p.add_argument("--fermata", default=FERMATA, metavar="FILE", help=f"the binary to measure [{FERMATA}]")
    p.add_argument("--quick", action="store_true", help="a few workloads and peers, in under two minutes")
    p.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help=f"where the results go [{RESULTS}]")
    p.add_argument("--report", type=Path, metavar="FILE", help="measure nothing; draw what is in FILE")
    p.add_argument("--publish", action="store_true", help="with --report: draw into spec/ and README.md")
    p.add_argument("--venv", action="store_true", help="only make the virtual environment of the peers")
    return p


def choose(p: argparse.ArgumentParser, what: str, text: str | None, allowed: list[str]) -> list[str] | None:
    """The names in `text`, in the order of `allowed`; wrong ones end the program."""
    if text is None:
        return None
    chosen: set[str] = set()
    for name in text.split(","):
        found = [a for a in allowed if a == name or (name.endswith("*") and a.startswith(name[:-1]))]
        if not found:
            p.error(f"no such {what}: {name!r} (there are {', '.join(allowed)})")
        chosen.update(found)
    return [a for a in allowed if a in chosen]


def show_list() -> None:
    for workload in WORKLOADS.values():
        print(f"{workload.name:14} {workload.title}\n{'':14}   {', '.join(workload.peers)}")
        for peer, reason in workload.left_out.items():
            print(f"{'':14}   without {peer}: {reason}")
    print("\npeers: " + ", ".join(f"{peer.name} ({peer.label})" for peer in PEERS.values()))


def make_plan(p: argparse.ArgumentParser, options: argparse.Namespace) -> suite.Plan:
    for name in ("rounds", "seconds", "wrk_threads"):
        if (value := getattr(options, name)) is not None and value <= 0:
            p.error(f"--{name.replace('_', '-')} takes a number above 0, not {value}")
    quick = options.quick
    peers = choose(p, "peer", options.peers, list(PEERS))
    workloads = choose(p, "workload", options.workloads, list(WORKLOADS))
    return suite.Plan(
        workloads=workloads or list(QUICK_WORKLOADS if quick else WORKLOADS),
        peers=peers or (list(QUICK_PEERS) if quick else None),
        rounds=options.rounds or (2 if quick else 5),
        repeats=(0 if quick else 3) if options.repeats is None else options.repeats,
        options=Options(options.seconds or (1.5 if quick else 3.0), options.wrk_threads, options.fermata),
        idle_seconds=60.0 if (options.seconds or 3) >= 3 else 10.0,
    )


def need(p: argparse.ArgumentParser, fermata: str) -> None:
    absent = [name for name in (*NEEDED, fermata) if not (ROOT / name).exists()]
    absent += [] if shutil.which("wrk") else ["wrk"]
    absent += [] if venv.STAMP.exists() else [str(BUILD / "venv")]
    if absent:
        p.exit(1, f"missing: {', '.join(absent)}; `make bench-tools` makes or installs what is needed\n")


def raise_limits() -> None:
    """As many open files as we may have; the servers and the load generators inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    os.chdir(ROOT)
    # So that whatever has been started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    p = parser()
    options = p.parse_args()
    if options.list:
        show_list()
        return
    if options.venv:
        venv.make()
        return
    if options.report:
        try:
            results = json.loads(options.report.read_text())
        except (OSError, ValueError) as error:
            p.exit(1, f"{options.report}: {error}\n")
        report.draw(results, publish=options.publish)
        return
    plan = make_plan(p, options)
    need(p, plan.options.fermata)
    raise_limits()
    print(f"{len(plan.workloads)} workloads: about {plan.estimate() / 60:.0f} minutes", file=sys.stderr)
    results = suite.run(plan, options.out, sys.argv[1:])
    report.draw(results, publish=False)


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
