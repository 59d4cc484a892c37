/* What tests of src/py and src/wsgi need: the embedded interpreter, started once a program as the server starts it;
 * Python code as text; what was logged. */
#ifndef FERMATA_TESTS_UNIT_PYTHON_H
#define FERMATA_TESTS_UNIT_PYTHON_H

#include "fermata/py/python.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../util/threads.h"
#include "fermata/py/interp.h"
#include "fermata/util/log.h"

static PyObject *names; /* the variables of the Python code below */

/* ---- Python code ---- */

/* Runs statements. */
#define PY(text) py_run(text, __FILE__, __LINE__)

/* The expression is true. */
#define assert_py(expression) py_assert(expression, __FILE__, __LINE__)

static inline void py_run(const char *text, const char *file, int line)
{
    PyObject *none = PyRun_String(text, Py_file_input, names, names);
    if (!none) {
        PyErr_Print();
        fail_msg("%s:%d: an exception", file, line);
    }
    Py_DECREF(none);
}

/* A new reference. */
static inline PyObject *py_get(const char *expression)
{
    PyObject *value = PyRun_String(expression, Py_eval_input, names, names);
    if (!value) {
        PyErr_Print();
        fail_msg("%s: an exception", expression);
    }
    return value;
}

static inline void py_assert(const char *expression, const char *file, int line)
{
    PyObject *value = py_get(expression);
    int is = PyObject_IsTrue(value);
    Py_DECREF(value);
    if (is != 1)
        fail_msg("%s:%d: not true: %s", file, line, expression);
}

static inline void py_set(const char *name, PyObject *value) /* steals value */
{
    if (!value || PyDict_SetItemString(names, name, value) != 0) {
        PyErr_Print();
        fail_msg("%s cannot be set", name);
    }
    Py_DECREF(value);
}

/* The exception that is set is of this type, and its text has this in it; clears it. */
static inline void assert_raised(PyObject *type, const char *text)
{
    assert_true(PyErr_ExceptionMatches(type));
    PyObject *t, *value, *tb;
    PyErr_Fetch(&t, &value, &tb);
    PyErr_NormalizeException(&t, &value, &tb);
    PyObject *shown = PyObject_Str(value);
    assert_non_null(strstr(PyUnicode_AsUTF8(shown), text));
    Py_DECREF(shown);
    Py_XDECREF(t);
    Py_XDECREF(value);
    Py_XDECREF(tb);
}

/* ---- what was logged ---- */

static char log_path[64], *log_content;

/* All that was logged since the last time. */
static inline const char *logged(void)
{
    struct stat st;
    int fd = open(log_path, O_RDWR);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    free(log_content);
    log_content = calloc(1, (size_t)st.st_size + 1);
    CHECK(read(fd, log_content, (size_t)st.st_size) == st.st_size);
    CHECK(ftruncate(fd, 0) == 0);
    close(fd);
    return log_content;
}

static inline bool has(const char *text, const char *part) { return strstr(text, part) != NULL; }

/* ---- start and end ---- */

static inline void open_log(void)
{
    strcpy(log_path, "/tmp/fermata-unit-XXXXXX");
    close(mkstemp(log_path));
    fm_log_set_level(FM_LOG_INFO);
    CHECK(fm_log_open(log_path) == 0);
}

static inline void start_python(void)
{
    static char program[] = "test", arg[] = "argument", *args[] = {arg};
    const struct fm_interp_config config = {.program = program, .args = args, .nargs = 1};
    no_longer_than(300);
    open_log();
    if (fm_interp_start(&config) != 0) {
        fprintf(stderr, "%s", logged());
        exit(1);
    }
    names = PyDict_New();
    CHECK(names && PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) == 0);
}

static inline void stop_python(void)
{
    Py_CLEAR(names);
    CHECK(fm_interp_stop() == 0);
    fm_log_open("-");
    free(log_content);
    unlink(log_path);
}

#endif
