/* environ (PEP 3333, "environ Variables"): a copy of a template plus what is the request's own.  Strings are native
 * ones made from latin-1, as the PEP wants.
 *
 * Copying a dictionary is one memcpy and a reference a value, so the template holds as much as it can: what is the same
 * for all requests, what seldom changes (it follows the last request: `steady`), and a place for what each request
 * sets. Twenty-two entries or more also make the table large enough for twenty headers without growing.  Together with
 * the values kept below that took some 4,000 of 18,400 instructions of a hello off. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#include "fermata/util/text.h"
#include "fermata/util/version.h"

static PyObject *template;

static PyObject *no_input; /* wsgi.input of a request without a body; borrowed from the template */

/* What most requests share with the one before. */
static struct steady {
    enum fm_name_id key;
    PyObject *value; /* borrowed from the template */
} remote_addr = {FM_N_REMOTE_ADDR, NULL}, server_name = {FM_N_SERVER_NAME, NULL},
  server_port = {FM_N_SERVER_PORT, NULL}, request_method = {FM_N_REQUEST_METHOD, NULL},
  http_host = {FM_N_HTTP_HOST, NULL}, request_uri = {FM_N_REQUEST_URI, NULL}, path_info = {FM_N_PATH_INFO, NULL},
  query_string = {FM_N_QUERY_STRING, NULL};

/* The last value of each header that clients repeat in every request (and that is no secret): the same string again
 * costs a comparison, and ten thousand parked requests share it. */
static PyObject *last_value[FM_H_OTHER];
#define REPEATED_MAX 512 /* bytes of a value that may be kept */

#define BIT(id) (1ull << FM_H_##id)
static const uint64_t repeated =
    BIT(ACCEPT) | BIT(ACCEPT_CHARSET) | BIT(ACCEPT_ENCODING) | BIT(ACCEPT_LANGUAGE) | BIT(CACHE_CONTROL) |
    BIT(CONNECTION) | BIT(CONTENT_TYPE) | BIT(DNT) | BIT(ORIGIN) | BIT(PRAGMA) | BIT(PRIORITY) | BIT(SEC_CH_UA) |
    BIT(SEC_CH_UA_MOBILE) | BIT(SEC_CH_UA_PLATFORM) | BIT(SEC_FETCH_DEST) | BIT(SEC_FETCH_MODE) | BIT(SEC_FETCH_SITE) |
    BIT(SEC_FETCH_USER) | BIT(TE) | BIT(UPGRADE_INSECURE_REQUESTS) | BIT(USER_AGENT) | BIT(VIA) |
    BIT(X_FORWARDED_HOST) | BIT(X_FORWARDED_PROTO) | BIT(X_REQUESTED_WITH);
_Static_assert(FM_H_OTHER <= 64, "a set of known headers is one word");

/* REMOTE_PORT as text, for the connections that were active last. */
#define PORTS 512
static struct {
    unsigned port;
    PyObject *text;
} ports[PORTS];

static PyObject *latin1(const char *p, size_t n) { return PyUnicode_DecodeLatin1(p, (Py_ssize_t)n, NULL); }

/* Does the string, which was made by latin1, hold this text? */
static bool is_text(PyObject *s, const char *p, size_t n)
{
    return s && (size_t)PyUnicode_GET_LENGTH(s) == n && memcmp(PyUnicode_1BYTE_DATA(s), p, n) == 0;
}

/* A new reference to the header's value. */
static PyObject *header_value(unsigned id, const char *p, size_t n)
{
    if (id >= FM_H_OTHER || !(repeated >> id & 1) || n > REPEATED_MAX)
        return latin1(p, n);
    if (!is_text(last_value[id], p, n)) {
        PyObject *value = latin1(p, n);
        if (!value)
            return NULL;
        Py_XSETREF(last_value[id], value);
    }
    return Py_NewRef(last_value[id]);
}

static PyObject *port_text(unsigned port) /* borrowed */
{
    unsigned i = port % PORTS;
    if (!ports[i].text || ports[i].port != port) {
        char digits[5], *p = digits + sizeof digits;
        unsigned n = port;
        do
            *--p = (char)('0' + n % 10);
        while ((n /= 10) > 0 && p > digits);
        PyObject *text = latin1(p, (size_t)(digits + sizeof digits - p));
        if (!text)
            return NULL;
        Py_XSETREF(ports[i].text, text);
        ports[i].port = port;
    }
    return ports[i].text;
}

/* Lets the template have this value. */
static int follow(struct steady *s, PyObject *value) /* steals value */
{
    int err = value ? PyDict_SetItem(template, fm_name[s->key], value) : -1;
    s->value = err ? NULL : value;
    Py_XDECREF(value);
    return err;
}

static int follow_text(struct steady *s, const char *text)
{
    if (s->value && strcmp((const char *)PyUnicode_1BYTE_DATA(s->value), text) == 0)
        return 0;
    return follow(s, latin1(text, strlen(text)));
}

static int set_const(const char *key, PyObject *value) /* steals value */
{
    int err = value ? PyDict_SetItemString(template, key, value) : -1;
    Py_XDECREF(value);
    return err;
}

/* A place in the template for what a request sets, in any case or unless this is its value. */
static int set_place(enum fm_name_id key, PyObject *value) { return PyDict_SetItem(template, fm_name[key], value); }

/* A new input for the template.  It has a position, and can be closed, so each request must have one of its own; but
 * one that no other request holds any more, and that is as new, is used again. */
static int renew_input(void)
{
    struct fm_body no_body;
    fm_body_init(&no_body);
    PyObject *input = fm_input_new(&no_body);
    if (set_const("wsgi.input", input) != 0)
        return -1;
    no_input = input;
    return 0;
}

int fm_environ_init(bool multithread)
{
    if (!(template = PyDict_New()))
        return -1;
    return set_const("wsgi.version", Py_BuildValue("(ii)", 1, 0)) ||
                   set_const("wsgi.url_scheme", PyUnicode_FromString("http")) ||
                   set_const("wsgi.multithread", PyBool_FromLong(multithread)) ||
                   set_const("wsgi.multiprocess", PyBool_FromLong(0)) ||
                   set_const("wsgi.run_once", PyBool_FromLong(0)) ||
                   set_const("wsgi.input_terminated", PyBool_FromLong(1)) ||
                   set_const("wsgi.file_wrapper", Py_NewRef((PyObject *)&fm_file_wrapper_type)) ||
                   set_const("wsgi_plus.version", Py_BuildValue("(ii)", 1, 0)) ||
                   set_const("GATEWAY_INTERFACE", PyUnicode_FromString("CGI/1.1")) ||
                   set_const("SCRIPT_NAME", PyUnicode_FromString("")) ||
                   set_const("SERVER_SOFTWARE", PyUnicode_FromString("fermata/" FM_VERSION)) ||
                   follow_text(&request_method, "GET") || follow_text(&remote_addr, "") ||
                   follow_text(&server_name, "") || follow_text(&server_port, "") || follow_text(&request_uri, "/") ||
                   follow_text(&path_info, "/") || follow_text(&query_string, "") ||
                   set_place(FM_N_SERVER_PROTOCOL, fm_name[FM_N_HTTP_1_1]) || set_place(FM_N_REMOTE_PORT, Py_None) ||
                   follow_text(&http_host, "") || set_const("wsgi.errors", fm_errors_new()) || renew_input()
               ? -1
               : 0;
}

void fm_environ_fini(void)
{
    Py_CLEAR(template);
    for (int i = 0; i < FM_H_OTHER; i++)
        Py_CLEAR(last_value[i]);
    for (int i = 0; i < PORTS; i++)
        Py_CLEAR(ports[i].text);
}

/* Steals value. */
static int put(PyObject *env, PyObject *key, PyObject *value)
{
    int err = value ? PyDict_SetItem(env, key, value) : -1;
    Py_XDECREF(value);
    return err;
}

/* PATH_INFO is percent-decoded; a '%' that starts no escape stays as it is. */
static PyObject *decode_path(const char *p, size_t n)
{
    if (!memchr(p, '%', n))
        return latin1(p, n);
    char small[512] = "", *out = n <= sizeof small ? small : PyMem_Malloc(n);
    if (!out)
        return PyErr_NoMemory();
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        int high, low;
        if (p[i] == '%' && i + 2 < n && (high = fm_hex_value(p[i + 1])) >= 0 && (low = fm_hex_value(p[i + 2])) >= 0) {
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
    if (f->id == FM_H_HOST)
        return 0; /* the template has it */
    if (f->id == FM_H_TRANSFER_ENCODING)
        return 0; /* the body is decoded (RFC 9112, 7.1.3): who believed the field would decode it again, or pass it on
                   */
    const char *name = r->head + f->name_off;
    bool known = f->id < FM_H_OTHER;
    PyObject *key = known ? Py_NewRef(fm_header_key[f->id]) : make_key(name, f->name_len);
    PyObject *value = header_value(f->id, r->head + f->value_off, f->value_len);
    bool again = !known || (*seen >> f->id & 1); /* for an unknown name only a look-up can tell */
    if (known)
        *seen |= 1ull << f->id;
    if (key && value && again) {
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

static int put_headers(PyObject *env, const struct fm_request *r)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < r->nfields; i++)
        if (put_field(env, r, &r->fields[i], &seen) != 0)
            return -1;
    /* The body is complete, so its length is known also where it came in chunks: frameworks read by CONTENT_LENGTH. */
    if (r->chunked &&
        put(env, fm_name[FM_N_CONTENT_LENGTH], PyUnicode_FromFormat("%llu", (unsigned long long)r->body.size)))
        return -1;
    return 0;
}

/* The target as it came, its path and its query; all the same if the target is. */
static int follow_target(const struct fm_request *r)
{
    const char *target = fm_request_text(r, r->target), *path = fm_request_text(r, r->path);
    if (is_text(request_uri.value, target, r->target.len))
        return 0;
    request_uri.value = NULL; /* until all three are set: it stands for them */
    return follow(&path_info, decode_path(path, r->path.len)) ||
                   follow(&query_string, latin1(fm_request_text(r, r->query), r->query.len)) ||
                   follow(&request_uri, latin1(target, r->target.len))
               ? -1
               : 0;
}

/* A unix socket has no port. */
static int put_port(PyObject *env, const struct fm_peer *peer)
{
    if (!*peer->remote_addr)
        return PyDict_DelItem(env, fm_name[FM_N_REMOTE_PORT]);
    PyObject *port = port_text(peer->remote_port);
    return port ? PyDict_SetItem(env, fm_name[FM_N_REMOTE_PORT], port) : -1;
}

static int fill(PyObject *env, struct fm_call *call)
{
    const struct fm_request *r = call->request;
    if (put_headers(env, r))
        return -1;
    if (r->minor == 0 && PyDict_SetItem(env, fm_name[FM_N_SERVER_PROTOCOL], fm_name[FM_N_HTTP_1_0]))
        return -1;
    if (put_port(env, &call->peer) != 0)
        return -1;
    /* The template has the host.  One that is empty is only there if the client sent it so. */
    if (r->host.len == 0 && !fm_request_find(r, FM_H_HOST) && PyDict_DelItem(env, fm_name[FM_N_HTTP_HOST]))
        return -1;
    return r->body.size > 0 ? put(env, fm_name[FM_N_WSGI_INPUT], fm_input_new(&call->request->body)) : 0;
}

PyObject *fm_environ_new(struct fm_call *call)
{
    const struct fm_request *r = call->request;
    const struct fm_peer *peer = &call->peer;
    const char *method = fm_request_text(r, r->method);
    if ((!is_text(request_method.value, method, r->method.len) &&
         follow(&request_method, latin1(method, r->method.len))) ||
        follow_text(&remote_addr, peer->remote_addr) || follow_text(&server_name, peer->server_name) ||
        follow_text(&server_port, peer->server_port) || follow_target(r) ||
        (r->body.size == 0 && !fm_input_is_unused(no_input) && renew_input()))
        return NULL;
    /* An absolute-form target names the host that counts, else it is the field (RFC 9112, 3.2.2). */
    const char *host = fm_request_text(r, r->host);
    if (!is_text(http_host.value, host, r->host.len) && follow(&http_host, latin1(host, r->host.len)))
        return NULL;
    PyObject *env = PyDict_Copy(template);
    if (env && fill(env, call) != 0)
        Py_CLEAR(env);
    return env;
}
