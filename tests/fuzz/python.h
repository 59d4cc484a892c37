/* The embedded interpreter, for fuzz targets of the WSGI layer; a target that includes this needs the GIL, which it
 * has: it is started in the main thread, and there is no other. */
#ifndef FERMATA_TESTS_FUZZ_PYTHON_H
#define FERMATA_TESTS_FUZZ_PYTHON_H

#include "wsgi/internal.h"

#include <unistd.h>

#include "compare.h"
#include "fermata/py/interp.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/gateway.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As the server: the interpreter, then the types and constants of the WSGI layer.  Neither is ended: they are there
 * until the process is over. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static char name[] = "fuzz", *args[] = {name, NULL};
    const struct fm_interp_config config = {.program = args[0]};
    (void)argc, (void)argv;
    fm_log_set_level(FM_LOG_ERROR);
    if (fm_interp_start(&config) != 0 ||
        fm_wsgi_init(&(struct fm_wsgi_config){.multithread = true, .end_child = _exit}) != 0)
        fuzz_fail("Python does not start");
    return 0;
}

static inline _Noreturn void fuzz_python_failed(const char *what)
{
    PyErr_Print();
    fuzz_fail("%s", what);
}

#endif
