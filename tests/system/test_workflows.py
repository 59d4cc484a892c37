""".github: workflows and forms are what GitHub takes, and what they call is there.  No server, and no network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.limits import LONG, ROOT
from ruamel.yaml import YAML

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
DISCUSSIONS = sorted((GITHUB / "DISCUSSION_TEMPLATE").glob("*.yml"))
PRE_COMMIT = ROOT / ".pre-commit-config.yaml"
MAKEFILE = (ROOT / "Makefile").read_text()

SCHEMAS = [
    *((path, schema) for path in WORKFLOWS for schema in ("github-workflows", "github-workflows-require-timeout")),
    *((path, "github-issue-config" if path.name == "config.yml" else "github-issue-forms") for path in FORMS),
    *((path, "github-discussion") for path in DISCUSSIONS),
]


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(path)  # of YAML 1.2, as GitHub's: `on` is a word
    return loaded


def named(paths: list[Path]) -> Any:
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def values(job: dict[str, Any], text: str) -> Iterator[str]:
    """The text with each value of the job's matrix in its place."""
    found = re.search(r"\$\{\{ matrix\.(\w+) \}\}", text)
    if found is None:
        yield text
        return
    for value in job["strategy"]["matrix"][found[1]]:
        yield from values(job, text.replace(found[0], str(value)))


def missing(command: str) -> list[str]:
    """Targets of the Makefile, and scripts, that the command names and that are not there."""
    wanted = re.findall(r"(?:^|[\s;&|])(scripts/[\w./-]+)", command)
    lost = [name for name in wanted if not (ROOT / name).is_file()]
    for words in re.findall(r"\bmake ([^;&|\n]*)", command):
        targets = [word for word in re.sub(r"'[^']*'", "", words).split() if re.fullmatch(r"[a-z][a-z-]*", word)]
        lost += [target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.M)]
    return lost


@pytest.mark.parametrize(("path", "schema"), SCHEMAS, ids=lambda value: getattr(value, "name", value))
def test_schema(path: Path, schema: str) -> None:
    """The schemas that check-jsonschema brings; its own one asks for a timeout of each job."""
    kind = "custom" if schema.endswith("require-timeout") else "vendor"
    checked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"{kind}.{schema}", path]
    done = subprocess.run(checked, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout + done.stderr


@named(WORKFLOWS)
def test_what_is_called_is_there(path: Path) -> None:
    """Each script, and each target of the Makefile."""
    workflow = load(path)
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for command in values(job, step.get("run", "")):
                assert missing(command) == [], command


def test_what_is_missing_is_found() -> None:
    assert missing("scripts/install-deps check && make -j2 unit") == []
    assert missing("scripts/install-dep check && make -j2 units T='no target' A=b") == ["scripts/install-dep", "units"]


@named(WORKFLOWS)
def test_needs_name_jobs_that_come_before(path: Path) -> None:
    before: set[str] = set()
    for name, job in load(path)["jobs"].items():
        needs = job.get("needs", [])
        assert {needs} if isinstance(needs, str) else set(needs) <= before, name
        before.add(name)


# What publishes has no token but the one that says which workflow it is.
RIGHTS = {
    ("release.yml", "publish"): {"id-token": "write"},
    ("release.yml", "release"): {"contents": "write", "id-token": "write", "attestations": "write"},
}


@named(WORKFLOWS)
def test_least_rights(path: Path) -> None:
    """The token may read the checkout, and no step keeps it; at most one run of a kind goes on."""
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    more = {(path.name, name): job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert more == {place: rights for place, rights in RIGHTS.items() if place[0] == path.name}
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


@named(WORKFLOWS)
def test_actions_are_pinned(path: Path) -> None:
    """GitHub's own by their major version, and one that is not by all of it."""
    for step in steps(load(path)):
        if "uses" in step and not re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]):
            assert path.name == "release.yml" and re.fullmatch(r"pypa/gh-action-pypi-publish@v\d+\.\d+\.\d+", step["uses"]), step


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="there is no actionlint (go install; check.yml runs it)")
def test_actionlint() -> None:
    """Expressions, contexts, inputs of actions, and with shellcheck the commands."""
    done = subprocess.run(["actionlint", *map(str, WORKFLOWS)], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@named(WORKFLOWS)
def test_nothing_of_the_event_is_run(path: Path) -> None:
    """What an author of a pull request chooses, such as its title, is nowhere in a command."""
    for step in steps(load(path)):
        assert set(re.findall(r"\$\{\{ *(\w+)", step.get("run", ""))) <= {"matrix"}, step


def test_pythons_are_supported() -> None:
    """Those of the matrix are among the classifiers of the package."""
    tested = load(GITHUB / "workflows" / "check.yml")["jobs"]["system"]["strategy"]["matrix"]["python"]
    classified = re.findall(r"Python :: (3\.\d+)", (ROOT / "py" / "pyproject.toml").read_text())
    assert tested and set(tested) <= set(classified)


RELEASE = load(GITHUB / "workflows" / "release.yml")


def test_release_publishes_tags_only() -> None:
    """What is begun by hand builds all and publishes nothing."""
    outward = {name for name, job in RELEASE["jobs"].items() if "permissions" in job}
    assert outward == {"publish", "release"}
    assert all(RELEASE["jobs"][name]["if"] == "github.ref_type == 'tag'" for name in outward)
    assert RELEASE["on"]["push"] == {"tags": ["v*"]}


def test_release_asks_first() -> None:
    """Whether the tag is the version's, before anything is built."""
    commands = [step["run"] for step in RELEASE["jobs"]["sources"]["steps"] if "run" in step]
    assert commands[0].startswith("scripts/dev/release --check ")
    assert set(RELEASE["jobs"]["publish"]["needs"]) == {"sources", "wheels", "debian"}


def test_release_builds_for_the_supported_pythons() -> None:
    """Those that the system tests run with, and two for which there is no image that they could run in, so that no more than
    scripts/dev/try-installed is run with their wheels; on two C libraries and two processors.  Wheels are made of the source
    distribution."""
    tested = load(GITHUB / "workflows" / "check.yml")["jobs"]["system"]["strategy"]["matrix"]["python"]
    job = RELEASE["jobs"]["wheels"]
    libc = "${{ matrix.libc }}"
    assert job["env"]["CIBW_BUILD"].split(f"-{libc}*") == [*(f"{' ' if i else ''}cp{name.replace('.', '')}" for i, name in enumerate([*tested, "3.14t", "3.15"])), ""]
    assert len(job["strategy"]["matrix"]["runner"]) == len(job["strategy"]["matrix"]["libc"]) == 2
    [build] = [step["run"] for step in job["steps"] if "cibuildwheel " in step.get("run", "")]
    assert build.endswith(" dist/fermata_server-*.tar.gz")


def test_hooks_are_local() -> None:
    """pre-commit downloads nothing: each hook calls what the checkout has."""
    for repo in load(PRE_COMMIT)["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            assert hook["language"] == "system"
            assert missing(hook["entry"]) == []
            for pattern in (hook.get("files"), hook.get("exclude")):
                re.compile(pattern or "")
