"""Hatchling's hook: has make build the extension module for the Python that runs this, and puts it into the wheel.

It says itself what is missing: pip shows the end of what a build prints, and a compiler's messages say little about packages.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What is looked for: what Debian, Fedora and Alpine have it in.
TOOLS = "build-essential", "gcc make", "build-base"
PYTHON_H = "python3-dev", "python3-devel", "python3-dev"
HEADERS = {
    "event2/event.h": ("libevent-dev", "libevent-devel", "libevent-dev"),
    "http_parser.h": ("libhttp-parser-dev", "http-parser-devel", "http-parser-dev"),
}

# Set to a directory that scripts/static-deps has made: its libraries become part of the module, and their licences of the wheel.
DEPS = "FERMATA_DEPS"

# What a list of materials says of them; versions are those that scripts/static-deps has found.
LICENCES = {"libevent": "BSD-3-Clause", "http-parser": "MIT"}

# Of the process that runs pip: what make would take for its own, or for CI's wish that warnings be errors.
NOT_OURS = ("CI", "DEPS", "FLAVOR", "GNUMAKEFLAGS", "MAKEFILES", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "V")


class CustomBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        editable = version == "editable"
        check()
        out = root / "build" / ("editable" if editable else f"wheel-{sysconfig.get_config_var('SOABI')}")
        make(root, out)
        if not editable:
            name = f"_server{sysconfig.get_config_var('EXT_SUFFIX')}"
            build_data["force_include"][str(out / "fermata_server" / name)] = f"fermata_server/{name}"
            if os.environ.get(DEPS):
                self.tell_what_is_inside(Path(os.environ[DEPS]), build_data)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def tell_what_is_inside(self, deps: Path, build_data: dict[str, Any]) -> None:
        """The licences of the libraries beside our own, and a list of materials (PEP 770) in dist-info/sboms."""
        beside = Path(self.root, "build", "licenses")  # METADATA names them relative to the project
        beside.mkdir(parents=True, exist_ok=True)
        for text in sorted((deps / "licenses").iterdir()):
            shutil.copy(text, beside)
            self.metadata.core.license_files.append(f"build/licenses/{text.name}")
        sbom = Path(self.root, "build", "fermata-server.cdx.json")
        sbom.write_text(json.dumps(materials(self.metadata.version, (deps / "versions").read_text()), indent=2) + "\n")
        build_data["sbom_files"].append(str(sbom))


def materials(version: str, versions: str) -> dict[str, Any]:
    """CycloneDX, of the lines `NAME VERSION` of scripts/static-deps; always the same for the same ones."""

    def component(kind: str, name: str, version: str, licence: str, purl: str) -> dict[str, Any]:
        found = {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
        return {**found, "licenses": [{"license": {"id": licence}}]}

    inside = [
        component("library", name, found, LICENCES[name], f"pkg:deb/debian/{name}@{found}?arch=source")
        for name, found in (line.split() for line in versions.splitlines())
    ]
    whole = component("application", "fermata-server", version, "MIT", f"pkg:pypi/fermata-server@{version}")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": whole},
        "components": inside,
        "dependencies": [{"ref": whole["bom-ref"], "dependsOn": [part["bom-ref"] for part in inside]}],
    }


def make(root: Path, out: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    env.setdefault("CFLAGS", "")  # of CC, CFLAGS, CPPFLAGS and LDFLAGS those that are set are make's; the Makefile has -g
    arguments = [f"-j{os.cpu_count() or 1}", "FLAVOR=module", f"O={out}", f"PYTHON={sys.executable}"]
    if os.environ.get(DEPS):
        arguments.append(f"DEPS={os.path.abspath(os.environ[DEPS])}")
    done = subprocess.run(["make", "-C", str(root), *arguments, "all"], env=env, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        refuse("make has failed; what it said stands above")


def refuse(*lines: str) -> None:
    print("", *(f"fermata: {line}" for line in lines), "", sep="\n", file=sys.stderr, flush=True)
    raise SystemExit(1)


def install(*packages: tuple[str, str, str]) -> list[str]:
    """How, in three lines, from the names in the three distributions."""
    debian, fedora, alpine = (" ".join(names) for names in zip(*packages, strict=True))
    return [f"Debian: apt-get install {debian}", f"Fedora: dnf install {fedora}", f"Alpine: apk add {alpine}"]


def check() -> None:
    """Refuses to begin where it would fail."""
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        refuse("it is for CPython on Linux")
    cc = shlex.split(os.environ.get("CC") or "gcc")
    if lost := [tool for tool in ("make", cc[0]) if not shutil.which(tool)]:
        refuse(f"{' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} missing, which it is built with", *install(TOOLS))
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        refuse(f"{include}/Python.h is missing, of {sys.executable}", *install(PYTHON_H))
    if os.environ.get(DEPS):
        return
    flags = shlex.split(f"{os.environ.get('CPPFLAGS', '')} {os.environ.get('CFLAGS', '')}")
    if lost := [header for header in HEADERS if not compiles([*cc, *flags], header)]:
        refuse(f"the compiler does not find {' and '.join(lost)}", *install(*(HEADERS[header] for header in lost)))


def compiles(command: list[str], header: str) -> bool:
    command = [*command, "-E", "-x", "c", "-o", os.devnull, "-"]
    return subprocess.run(command, input=f"#include <{header}>\n", text=True, capture_output=True).returncode == 0
