"""Which calls can be made to fail at all: a CPython function that the server begins to use must not be forgotten."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from harness.limits import fermata

# These cannot fail, or have no caller to tell: they end something, only look, or are told of an exception.
CANNOT = re.compile(
    r"Py(Err|GILState|Thread|Config|Status|OS)_\w+|PyEval_(Save|Restore)Thread|PyEval_SetTrace|Py_GetVersion"
    r"|Py_FinalizeEx|Py_IsInitialized|PyObject_GC_(Un)?Track|PyObject_GC_Del|PyObject_Free|PyMem_(Raw)?Free|_Py_Dealloc|PyType_IsSubtype"
    r"|PyDict_GetItemString|PyDict_Next|PyImport_GetModuleDict|PyObject_RichCompareBool"  # of two thread idents, the last one
    r"|PyObject_HasAttr|PySys_GetObject|PyContext_(Enter|Exit)|PyBool_FromLong|PyCapsule_GetPointer"
    r"|PyBuffer_Release|PyUnicode_CompareWithASCIIString|_?PyUnicode_Ready|PyObject_SelfIter|PyVectorcall_Call"
    r"|_PyType_Lookup"  # sets no exception: what it does not find is not there
    r"|PyCode_Addr2Line|PyFrame_Get\w+|PyUnstable_InterpreterFrame_Get\w+"
    r"|PyType_GenericAlloc|_PyTrash_\w+|_PyErr_BadInternalCall|_Py_(Fatal|Negative|IncRef|DecRef)\w*|_Py_FatalErrorFunc|PyException_\w+"
)


def functions(kind: str, *paths: Path) -> set[str]:
    text = subprocess.run(["nm", *kind.split(), *map(str, paths)], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\b(_?Py[A-Za-z]*_[A-Za-z0-9_]+)$", text, re.MULTILINE))


def test_every_cpython_call_can_fail() -> None:
    objects = fermata().parent / "obj"
    called = functions("-u", *(objects / "py").glob("*.o"), *(objects / "wsgi").glob("*.o"))
    assert "PyDict_Copy" in called
    table = (Path(__file__).parent / "calls.h").read_text()
    wrapped = set(re.findall(r"^    X\((\w+)\)", table, re.MULTILINE))
    data = {name for name in called if re.search(r"^PyExc_|_Type$|Struct$", name)}
    forgotten = {name for name in called - wrapped - data if not CANNOT.fullmatch(name)}
    assert not forgotten, f"neither in calls.h nor among those that cannot fail: {sorted(forgotten)}"
