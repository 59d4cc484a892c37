/* Python embedded in the program: started here, for the environment that --venv names, and ended here. */
#include "fermata/py/python.h"

#include "fermata/py/interp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/py/debug.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "start.h"

#ifndef FM_PYTHON
#error "FM_PYTHON: the path of the python that this binary is built against"
#endif

#define PATH_SIZE 4096

/* Of the directory that has the modules. */
#ifdef Py_GIL_DISABLED
#define KIND "t"
#else
#define KIND ""
#endif

static bool is_same_file(const char *a, const char *b)
{
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* The value of `home` in the environment's pyvenv.cfg: the directory of the python that it was made with.  False if
 * there is none. */
static bool venv_home(const char *venv, char *home, size_t size)
{
    char line[PATH_SIZE];
    bool found = false;
    snprintf(line, sizeof line, "%s/pyvenv.cfg", venv);
    FILE *f = fopen(line, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        char *key = line + strspn(line, " \t"), *value = strchr(line, '=');
        if (!value || strncasecmp(key, "home", 4) != 0 || key + 4 + strspn(key + 4, " \t") != value)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\r\n")] = '\0';
        found = *value && snprintf(home, size, "%s", value) < (int)size;
    }
    if (f)
        fclose(f);
    return found;
}

/* Is the python that `home` has the one that is embedded here?  Another build of the same version has other modules in
 * C, which would be found and not fit. */
static bool is_our_home(const char *home)
{
    char path[PATH_SIZE + 32], own[PATH_SIZE] = FM_PYTHON;
    char *slash = strrchr(own, '/');
    snprintf(path, sizeof path, "%s/python%d.%d", home, PY_MAJOR_VERSION, PY_MINOR_VERSION);
    if (is_same_file(path, FM_PYTHON))
        return true;
    if (slash)
        *slash = '\0';
    return is_same_file(home, own);
}

static int check_venv(const char *venv)
{
    char home[PATH_SIZE];
    if (!venv_home(venv, home, sizeof home)) {
        fm_log(FM_LOG_CRITICAL, "--venv %s: it is no virtual environment: no pyvenv.cfg in it names its home", venv);
        return FM_EINVAL;
    }
    if (is_our_home(home))
        return 0;
    fm_log(FM_LOG_CRITICAL,
           "--venv %s: it was made with the Python in %s, and this fermata is built with " FM_PYTHON
           ", which is another one; make it anew with: " FM_PYTHON " -m venv --clear %s",
           venv, home, venv);
    return FM_EINVAL;
}

/* The python of the environment, as its own `python` would be found: getpath looks for pyvenv.cfg beside it. */
static int venv_python(const char *venv, char *path, size_t size)
{
    char lib[PATH_SIZE + 100];
    snprintf(path, size, "%s/bin/python", venv);
    if (access(path, X_OK) != 0) {
        fm_log(FM_LOG_CRITICAL, "--venv %s: there is no bin/python in it", venv);
        return FM_EINVAL;
    }
    snprintf(lib, sizeof lib, "%s/lib/python%d.%d" KIND, venv, PY_MAJOR_VERSION, PY_MINOR_VERSION);
    if (access(lib, F_OK) != 0) {
        fm_log(FM_LOG_CRITICAL, "--venv %s: it is not for Python %d.%d" KIND ", which this fermata is built with", venv,
               PY_MAJOR_VERSION, PY_MINOR_VERSION);
        return FM_EINVAL;
    }
    return check_venv(venv);
}

static PyStatus configure(PyConfig *config, const struct fm_interp_config *c, const char *program)
{
    config->install_signal_handlers = 0; /* SIGINT and SIGTERM are the server's */
    config->parse_argv = 0;
    PyStatus status = PyConfig_SetBytesString(config, &config->program_name, program);
    if (PyStatus_Exception(status))
        return status;
    char **argv = fm_malloc((size_t)(c->nargs + 1) * sizeof *argv);
    argv[0] = (char *)(uintptr_t)c->program;
    for (int i = 0; i < c->nargs; i++)
        argv[1 + i] = c->args[i];
    status = PyConfig_SetBytesArgv(config, 1 + c->nargs, argv);
    free(argv);
    if (PyStatus_Exception(status))
        return status;
    return Py_InitializeFromConfig(config);
}

int fm_interp_start(const struct fm_interp_config *c) FM_UNCHECKED
{
    char program[PATH_SIZE] = FM_PYTHON;
    if (c->venv && venv_python(c->venv, program, sizeof program) != 0)
        return FM_EINVAL;
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = configure(&config, c, program);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        fm_log(FM_LOG_CRITICAL, "Python did not start: %s", status.err_msg ? status.err_msg : "no reason given");
        return FM_EINVAL;
    }
    if (fm_interp_import_own() != 0 || fm_interp_extend_path(c->pythonpath) != 0) {
        PyErr_Print();
        return FM_EINVAL;
    }
    return 0;
}

/* It is not started yet: PYTHON_GIL=1 asks for the GIL. */
bool fm_interp_is_free_threaded(void)
{
#ifdef Py_GIL_DISABLED
    const char *asked = getenv("PYTHON_GIL");
    return !asked || strcmp(asked, "1") != 0;
#else
    return false;
#endif
}

int fm_interp_stop(void) FM_UNCHECKED
{
    fm_debugger_end();
    return Py_FinalizeEx();
}

bool fm_interp_ends_later(void) { return false; }

char **fm_interp_again(char **argv) { return argv; }
