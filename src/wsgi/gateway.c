/* The beginning and the end of the layer: the state of the interpreter and of the pool threads is made and dropped. */
#include "internal.h"

#include <stdlib.h>

#include "fermata/util/err.h"
#include "fermata/wsgi/gateway.h"

/* Interned: dictionary keys that hash once. */
static int make_names(void)
{
    static const char *const names[] = {
#define X(id, text) text,
        FM_NAMES(X)
#undef X
    };
    static const char *const keys[] = {
#define X(id, name, key) key,
        FM_HEADERS(X)
#undef X
    };
    for (int i = 0; i < FM_N_COUNT; i++)
        if (!(fm_wsgi.name[i] = PyUnicode_InternFromString(names[i])))
            return -1;
    for (int i = 0; i < FM_H_OTHER; i++)
        if (!(fm_wsgi.header_key[i] = PyUnicode_InternFromString(keys[i])))
            return -1;
    return 0;
}

static int make_types(void)
{
#define X(name)                                                                                                        \
    if (!(fm_wsgi.name##_type = (PyTypeObject *)PyType_FromSpec(&fm_##name##_spec)))                                   \
        return -1;
    FM_TYPES(X)
#undef X
    return 0;
}

/* The type of that name of a module, or NULL with an exception set. */
static PyTypeObject *find_type(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *type = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    if (type && !PyType_Check(type)) {
        PyErr_Format(PyExc_TypeError, "%s.%s is no type", module_name, name);
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static int find_types(void)
{
    return (fm_wsgi.future_type = find_type("concurrent.futures", "Future")) &&
                   (fm_wsgi.raw_type = find_type("_io", "FileIO")) &&
                   (fm_wsgi.reader_type = find_type("_io", "BufferedReader")) &&
                   (fm_wsgi.random_type = find_type("_io", "BufferedRandom"))
               ? 0
               : -1;
}

int fm_wsgi_init(const struct fm_wsgi_config *config)
{
    fm_wsgi.config = *config;
    if (make_names() != 0 || make_types() != 0 || find_types() != 0)
        return -1;
    fm_wsgi.places = config->places ? fm_place_table_new() : NULL;
    fm_inquiries_open(true);
    return 0;
}

/* ---- of threads ---- */

struct fm_wsgi_thread *fm_wsgi_thread_new(void)
{
    struct fm_wsgi_thread *t = fm_calloc(1, sizeof *t);
    fm_mutex_lock(&fm_wsgi.lock);
    t->next = fm_wsgi.threads;
    fm_wsgi.threads = t;
    fm_mutex_unlock(&fm_wsgi.lock);
    return t;
}

/* The last of the threads have ended, and with them the last step. */
static void drop_threads(void)
{
    struct fm_wsgi_thread *t, *next;
    fm_mutex_lock(&fm_wsgi.lock);
    t = fm_wsgi.threads;
    fm_wsgi.threads = NULL;
    fm_mutex_unlock(&fm_wsgi.lock);
    for (; t; t = next) {
        next = t->next;
        fm_environ_fini(&t->environ);
        for (int i = 0; i < FM_KNOWN_NAMES; i++)
            Py_CLEAR(t->known[i].name);
        free(t);
    }
}

void fm_wsgi_fini(void)
{
    fm_inquiries_open(false);
    Py_CLEAR(fm_wsgi.application);
    drop_threads();
    fm_place_table_free(fm_wsgi.places);
    fm_wsgi.places = NULL;
    Py_CLEAR(fm_wsgi.future_type);
    Py_CLEAR(fm_wsgi.raw_type);
    Py_CLEAR(fm_wsgi.reader_type);
    Py_CLEAR(fm_wsgi.random_type);
#define X(name) Py_CLEAR(fm_wsgi.name##_type);
    FM_TYPES(X)
#undef X
    for (int i = 0; i < FM_N_COUNT; i++)
        Py_CLEAR(fm_wsgi.name[i]);
    for (int i = 0; i < FM_H_OTHER; i++)
        Py_CLEAR(fm_wsgi.header_key[i]);
}
