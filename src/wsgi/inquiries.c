/* Asks py/fermata/inquiries.py, which is compiled into the binary; see wsgi/inquiries.h. */
#include "internal.h"

#include <errno.h>

#include "fermata/py/error.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/inquiries.h"
#include "fermata/wsgi/report.h"
#include "inquiries.inc" /* fm_inquiries_source: py/fermata/inquiries.py, made by the Makefile */

static atomic_bool open_now; /* there is Python, and it does not end yet */

void fm_inquiries_open(bool open) { atomic_store(&open_now, open); }

/* A new reference to the module, which is made when it is first needed. */
static PyObject *find_module(void)
{
    static const char name[] = "_fermata_inquiries";
    PyObject *module = PyImport_ImportModule(name);
    if (module)
        return module;
    PyErr_Clear();
    PyObject *code = Py_CompileString(fm_inquiries_source, "<fermata/inquiries.py>", Py_file_input);
    module = code ? PyImport_ExecCodeModule(name, code) : NULL;
    Py_XDECREF(code);
    return module;
}

/* ---- the application's metrics ---- */

static void find_metrics(void *arg) FM_UNCHECKED
{
    struct fm_buf text = FM_BUF_INIT;
    PyObject *module = find_module();
    PyObject *found = module ? PyObject_CallMethod(module, "metrics", NULL) : NULL;
    fm_child_check(); /* a collector may do anything */
    enum fm_answered how = FM_ANSWER_FAILED;
    if (found == Py_None) {
        how = FM_ANSWER_ABSENT;
    } else if (found && PyBytes_Check(found)) {
        fm_buf_append(&text, PyBytes_AS_STRING(found), (size_t)PyBytes_GET_SIZE(found));
        how = text.failed ? FM_ANSWER_FAILED : FM_ANSWER_TEXT;
        if (text.failed)
            fm_error("/metrics/app: %s", fm_strerror(-ENOMEM));
    } else {
        fm_py_log_exception(FM_LOG_ERROR, "/metrics/app: the application's metrics cannot be collected");
        fm_child_check();
    }
    Py_XDECREF(found);
    Py_XDECREF(module);
    fm_inquiry_answer(arg, how, &text);
}

static int start_metrics(struct fm_inquiry *q)
{
    return atomic_load(&open_now) ? fm_report_call(find_metrics, q) : -EAGAIN;
}

struct fm_inquiry *fm_inquiry_of_metrics(void)
{
    static struct fm_inquiry inquiry = FM_INQUIRY_INIT(start_metrics);
    return &inquiry;
}
