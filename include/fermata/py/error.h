/* Python exceptions in the error log. */
#ifndef FERMATA_PY_ERROR_H
#define FERMATA_PY_ERROR_H

#include "fermata/util/annotate.h"
#include "fermata/util/log.h"

/* Logs the exception that is set, with its traceback, behind one line made from fmt, and clears it.  Exceptions raised
 * while formatting are shown in its place; none is set afterwards. */
void fm_py_log_exception(enum fm_log_level level, const char *fmt, ...) FM_NEEDS_GIL
    __attribute__((format(printf, 2, 3)));

/* Logs where each Python thread that runs `ident` is: a stack without an exception.  Where there is no GIL to keep the
 * thread where it is, it says that. */
void fm_py_log_stack(unsigned long ident, const char *fmt, ...) FM_NEEDS_GIL __attribute__((format(printf, 2, 3)));

/* The same for each thread but the calling one, behind a line each: what, and the thread's name. */
void fm_py_log_stacks(const char *what) FM_NEEDS_GIL;

#endif
