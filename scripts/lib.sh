# shellcheck shell=bash
# What the scripts share. Sourced, not run: it sets `root`, the checkout's directory, and defines functions.

# shellcheck disable=SC2034 # for those who source this
root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)

note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    note "$@"
    exit 1
}

# python_embeds PYTHON: prints the path of that interpreter itself (not of a shim or a virtual environment's
# link to it) when Fermata can embed it: CPython 3.10 or newer with headers and a shared library.
python_embeds() {
    "$1" - 2>/dev/null <<'PY'
import os, sys, sysconfig
var = sysconfig.get_config_var
header = os.path.join(sysconfig.get_path("include"), "Python.h")
library = os.path.join(var("LIBDIR") or "", var("LDLIBRARY") or "")
if sys.version_info < (3, 10) or not os.path.isfile(header):
    sys.exit(1)
if not var("Py_ENABLE_SHARED") or not os.path.isfile(library):
    sys.exit(1)
# An interpreter in a virtual environment has neither python3-config nor a prefix of its own.
print(getattr(sys, "_base_executable", None) or sys.executable)
PY
}

# find_python: prints the Python to build with: $PYTHON; or the python3 on PATH, if it can be embedded; or Debian's.
find_python() {
    if [[ -n ${PYTHON:-} ]]; then
        command -v -- "$PYTHON" || die "no such Python: $PYTHON"
        return
    fi
    python_embeds python3 || printf '%s\n' /usr/bin/python3
}
