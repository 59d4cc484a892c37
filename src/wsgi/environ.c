/* environ (PEP 3333, "environ Variables"): a copy of a template with what is the same for all requests, plus the
 * request's own.  Strings are native ones made from latin-1, as the PEP wants. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#ifndef FM_VERSION
#define FM_VERSION "0"
#endif

static PyObject *template;

/* Text values that most requests share with the one before: remote address, server name and port, host. */
struct cached {
    char text[64];
    size_t len;
    PyObject *value;
};
static struct cached last_addr, last_name, last_port, last_host;

static PyObject *latin1(const char *p, size_t n) { return PyUnicode_DecodeLatin1(p, (Py_ssize_t)n, NULL); }

/* A new reference to the text as str, made anew only if it is another one than last time. */
static PyObject *from_cache(struct cached *c, const char *p, size_t n)
{
    if (c->value && c->len == n && memcmp(c->text, p, n) == 0)
        return Py_NewRef(c->value);
    PyObject *value = latin1(p, n);
    if (value && n <= sizeof c->text) {
        memcpy(c->text, p, n);
        c->len = n;
        Py_XDECREF(c->value);
        c->value = Py_NewRef(value);
    }
    return value;
}

static int set_const(const char *key, PyObject *value) /* steals value */
{
    int err = value ? PyDict_SetItemString(template, key, value) : -1;
    Py_XDECREF(value);
    return err;
}

int fm_environ_init(bool multiprocess)
{
    if (!(template = PyDict_New()))
        return -1;
    return set_const("wsgi.version", Py_BuildValue("(ii)", 1, 0)) ||
                   set_const("wsgi.url_scheme", PyUnicode_FromString("http")) ||
                   set_const("wsgi.multithread", PyBool_FromLong(1)) ||
                   set_const("wsgi.multiprocess", PyBool_FromLong(multiprocess)) ||
                   set_const("wsgi.run_once", PyBool_FromLong(0)) ||
                   set_const("wsgi.input_terminated", PyBool_FromLong(1)) ||
                   set_const("wsgi.file_wrapper", Py_NewRef((PyObject *)&fm_file_wrapper_type)) ||
                   set_const("wsgi_plus.version", Py_BuildValue("(ii)", 1, 0)) ||
                   set_const("GATEWAY_INTERFACE", PyUnicode_FromString("CGI/1.1")) ||
                   set_const("SCRIPT_NAME", PyUnicode_FromString("")) ||
                   set_const("SERVER_SOFTWARE", PyUnicode_FromString("fermata/" FM_VERSION))
               ? -1
               : 0;
}

void fm_environ_fini(void)
{
    Py_CLEAR(template);
    Py_CLEAR(last_addr.value);
    Py_CLEAR(last_name.value);
    Py_CLEAR(last_port.value);
    Py_CLEAR(last_host.value);
}

/* Steals value. */
static int put(PyObject *env, PyObject *key, PyObject *value)
{
    int err = value ? PyDict_SetItem(env, key, value) : -1;
    Py_XDECREF(value);
    return err;
}

static int hex(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* PATH_INFO is percent-decoded; a '%' that starts no escape stays as it is. */
static PyObject *decode_path(const char *p, size_t n)
{
    if (n == 1 && p[0] == '/')
        return Py_NewRef(fm_name[FM_N_SLASH]);
    if (!memchr(p, '%', n))
        return latin1(p, n);
    char small[512] = "", *out = n <= sizeof small ? small : PyMem_Malloc(n);
    if (!out)
        return PyErr_NoMemory();
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        int high, low;
        if (p[i] == '%' && i + 2 < n && (high = hex((unsigned char)p[i + 1])) >= 0 &&
            (low = hex((unsigned char)p[i + 2])) >= 0) {
            out[len++] = (char)(high << 4 | low);
            i += 2;
        } else {
            out[len++] = p[i];
        }
    }
    PyObject *path = latin1(out, len);
    if (out != small)
        PyMem_Free(out);
    return path;
}

static PyObject *method_name(const char *p, size_t n)
{
    if (n == 3 && memcmp(p, "GET", 3) == 0)
        return Py_NewRef(fm_name[FM_N_GET]);
    if (n == 4 && memcmp(p, "POST", 4) == 0)
        return Py_NewRef(fm_name[FM_N_POST]);
    return latin1(p, n);
}

/* HTTP_X_Y for a header that has no interned key.  Names with an underscore were dropped by the parser, so two
 * different names never meet here. */
static PyObject *make_key(const char *name, size_t n)
{
    char small[256], *out = n + 5 <= sizeof small ? small : PyMem_Malloc(n + 5);
    if (!out)
        return PyErr_NoMemory();
    memcpy(out, "HTTP_", 5);
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        out[5 + i] = c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    PyObject *key = latin1(out, n + 5);
    if (out != small)
        PyMem_Free(out);
    return key;
}

/* A repeated header: its values joined (RFC 9110, 5.3; cookies by "; ", RFC 6265, 5.4). */
static PyObject *join(PyObject *before, PyObject *value, unsigned id)
{
    PyObject *joined = PyUnicode_FromFormat(id == FM_H_COOKIE ? "%U; %U" : "%U, %U", before, value);
    Py_DECREF(value);
    return joined;
}

static int put_field(PyObject *env, const struct fm_request *r, const struct fm_field *f, uint64_t *seen)
{
    const char *name = r->head + f->name_off, *text = r->head + f->value_off;
    bool known = f->id < FM_H_OTHER;
    PyObject *key = known ? Py_NewRef(fm_header_key[f->id]) : make_key(name, f->name_len);
    PyObject *value = f->id == FM_H_HOST ? from_cache(&last_host, text, f->value_len) : latin1(text, f->value_len);
    bool repeated = !known || (*seen >> f->id & 1); /* for an unknown name only a look-up can tell */
    if (known)
        *seen |= 1ull << f->id;
    if (key && value && repeated) {
        PyObject *before = PyDict_GetItemWithError(env, key); /* borrowed */
        if (before)
            value = join(before, value, f->id);
        else if (PyErr_Occurred())
            Py_CLEAR(value);
    }
    int err = key ? put(env, key, value) : -1;
    Py_XDECREF(key);
    return err;
}

_Static_assert(FM_H_OTHER <= 64, "the set of headers seen is one word");

static int put_headers(PyObject *env, const struct fm_request *r)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < r->nfields; i++)
        if (put_field(env, r, &r->fields[i], &seen) != 0)
            return -1;
    /* The body is complete, so its length is known also where it came in chunks: frameworks read by CONTENT_LENGTH. */
    if (r->chunked && put(env, fm_name[FM_N_CONTENT_LENGTH], PyUnicode_FromFormat("%llu", (unsigned long long)r->body.size)))
        return -1;
    return 0;
}

static int put_peer(PyObject *env, const struct fm_peer *peer)
{
    char port[12];
    if (put(env, fm_name[FM_N_REMOTE_ADDR], from_cache(&last_addr, peer->remote_addr, strlen(peer->remote_addr))) ||
        put(env, fm_name[FM_N_SERVER_NAME], from_cache(&last_name, peer->server_name, strlen(peer->server_name))) ||
        put(env, fm_name[FM_N_SERVER_PORT], from_cache(&last_port, peer->server_port, strlen(peer->server_port))))
        return -1;
    if (!*peer->remote_addr)
        return 0; /* a unix socket has no port */
    int n = snprintf(port, sizeof port, "%u", peer->remote_port);
    return put(env, fm_name[FM_N_REMOTE_PORT], latin1(port, (size_t)n));
}

static int fill(PyObject *env, struct fm_call *call)
{
    struct fm_request *r = call->request;
    if (put(env, fm_name[FM_N_REQUEST_METHOD], method_name(fm_request_text(r, r->method), r->method.len)) ||
        put(env, fm_name[FM_N_REQUEST_URI], latin1(fm_request_text(r, r->target), r->target.len)) ||
        put(env, fm_name[FM_N_PATH_INFO], decode_path(fm_request_text(r, r->path), r->path.len)) ||
        put(env, fm_name[FM_N_QUERY_STRING],
            r->query.len ? latin1(fm_request_text(r, r->query), r->query.len) : Py_NewRef(fm_name[FM_N_EMPTY])) ||
        put(env, fm_name[FM_N_SERVER_PROTOCOL], Py_NewRef(fm_name[r->minor ? FM_N_HTTP_1_1 : FM_N_HTTP_1_0])) ||
        put_peer(env, &call->peer) || put_headers(env, r))
        return -1;
    /* An absolute-form target names the host that counts (RFC 9112, 3.2.2). */
    if (r->host.len && put(env, fm_name[FM_N_HTTP_HOST], from_cache(&last_host, fm_request_text(r, r->host), r->host.len)))
        return -1;
    return put(env, fm_name[FM_N_WSGI_ERRORS], fm_errors_new()) ||
                   put(env, fm_name[FM_N_WSGI_INPUT], fm_input_new(&r->body))
               ? -1
               : 0;
}

PyObject *fm_environ_new(struct fm_call *call)
{
    PyObject *env = PyDict_Copy(template);
    if (env && fill(env, call) != 0)
        Py_CLEAR(env);
    return env;
}
