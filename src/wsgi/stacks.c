/* Stacks without the GIL; see wsgi/stacks.h. */
#include "fermata/py/python.h"

#include "fermata/wsgi/stacks.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"

#define MOST (64 * 1024) /* bytes that are logged */

static int memory_fd = -1; /* what the handler writes into; set before any thread asks */
static atomic_flag busy = ATOMIC_FLAG_INIT;
static char what_for[200]; /* its own, who has set busy */

int fm_stacks_prepare(void)
{
    memory_fd = memfd_create("fermata-stacks", MFD_CLOEXEC);
    if (memory_fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    fm_fds_own(memory_fd);
    PyObject *module = PyImport_ImportModule("faulthandler");
    PyObject *none = module ? PyObject_CallMethod(module, "register", "iiii", SIGRTMAX, memory_fd, 1, 0) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

/* The handler runs in this thread, before pthread_kill returns. */
static void *stacks_main(void *arg)
{
    static char text[MOST];
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGRTMAX);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL); /* the thread that asks may take no signals */
    pthread_setname_np(pthread_self(), "fermata-stacks");
    if (ftruncate(memory_fd, 0) == 0 && lseek(memory_fd, 0, SEEK_SET) == 0 &&
        pthread_kill(pthread_self(), SIGRTMAX) == 0) {
        ssize_t n = pread(memory_fd, text, sizeof text, 0);
        fm_log_text(FM_LOG_WARNING, text, n > 0 ? (size_t)n : 0, "%s: this is where the threads are:", what_for);
    }
    atomic_flag_clear(&busy);
    return arg;
}

void fm_stacks_log(const char *what)
{
    pthread_t thread;
    if (memory_fd < 0 || atomic_flag_test_and_set(&busy))
        return;
    snprintf(what_for, sizeof what_for, "%s", what);
    int err = pthread_create(&thread, NULL, stacks_main, NULL);
    if (err == 0) {
        pthread_detach(thread);
        return;
    }
    atomic_flag_clear(&busy);
    fm_error_ratelimited("stack report: %s", fm_strerror(-err));
}
