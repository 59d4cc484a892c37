/* environ (PEP 3333, "environ Variables"): a copy of a template plus what is the request's own.  Strings are native
 * ones made from latin-1, as the PEP wants.
 *
 * Copying a dictionary is one memcpy and a reference a value, so the template holds as much as it can: what is the same
 * for all requests, what seldom changes (it follows the last request: `steady`), and a place for what each request
 * sets. Twenty-two entries or more also make the table large enough for twenty headers without growing.  Together with
 * the values that are kept (struct fm_environ_cache) that took some 4,000 of 18,400 instructions of a hello off.
 *
 * Each pool thread has a template and values of its own, made for its first request, so no lock is needed. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#include "fermata/util/text.h"
#include "fermata/util/version.h"

#define REPEATED_MAX 512 /* bytes of a value that may be kept */

/* The headers that clients repeat in every request, and that are no secret. */
#define BIT(id) (1ull << FM_H_##id)
static const uint64_t repeated =
    BIT(ACCEPT) | BIT(ACCEPT_CHARSET) | BIT(ACCEPT_ENCODING) | BIT(ACCEPT_LANGUAGE) | BIT(CACHE_CONTROL) |
    BIT(CONNECTION) | BIT(CONTENT_TYPE) | BIT(DNT) | BIT(ORIGIN) | BIT(PRAGMA) | BIT(PRIORITY) | BIT(SEC_CH_UA) |
    BIT(SEC_CH_UA_MOBILE) | BIT(SEC_CH_UA_PLATFORM) | BIT(SEC_FETCH_DEST) | BIT(SEC_FETCH_MODE) | BIT(SEC_FETCH_SITE) |
    BIT(SEC_FETCH_USER) | BIT(TE) | BIT(UPGRADE_INSECURE_REQUESTS) | BIT(USER_AGENT) | BIT(VIA) |
    BIT(X_FORWARDED_HOST) | BIT(X_FORWARDED_PROTO) | BIT(X_REQUESTED_WITH);
_Static_assert(FM_H_OTHER <= 64, "a set of known headers is one word");

static PyObject *latin1(const char *p, size_t n) { return PyUnicode_DecodeLatin1(p, (Py_ssize_t)n, NULL); }

/* Does the string, which was made by latin1, hold this text? */
static bool is_text(PyObject *s, const char *p, size_t n)
{
    return s && (size_t)PyUnicode_GET_LENGTH(s) == n && memcmp(PyUnicode_1BYTE_DATA(s), p, n) == 0;
}

/* A new reference to the header's value. */
static PyObject *header_value(struct fm_environ_cache *mine, unsigned id, const char *p, size_t n)
{
    if (id >= FM_H_OTHER || !(repeated >> id & 1) || n > REPEATED_MAX)
        return latin1(p, n);
    if (!is_text(mine->last_value[id], p, n)) {
        PyObject *value = latin1(p, n);
        if (!value)
            return NULL;
        Py_XSETREF(mine->last_value[id], value);
    }
    return Py_NewRef(mine->last_value[id]);
}

static PyObject *port_text(struct fm_environ_cache *mine, unsigned port) /* borrowed */
{
    unsigned i = port % FM_PORTS;
    if (!mine->ports[i].text || mine->ports[i].port != port) {
        char digits[5], *p = digits + sizeof digits;
        unsigned n = port;
        do
            *--p = (char)('0' + n % 10);
        while ((n /= 10) > 0 && p > digits);
        PyObject *text = latin1(p, (size_t)(digits + sizeof digits - p));
        if (!text)
            return NULL;
        Py_XSETREF(mine->ports[i].text, text);
        mine->ports[i].port = port;
    }
    return mine->ports[i].text;
}

/* ---- the template ---- */

/* Lets the template have this value. */
static int follow(struct fm_environ_cache *mine, enum fm_steady which, PyObject *value) /* steals value */
{
    static const enum fm_name_id keys[] = {
#define X(name) FM_N_##name,
        FM_STEADY(X)
#undef X
    };
    int err = value ? PyDict_SetItem(mine->template, fm_wsgi.name[keys[which]], value) : -1;
    mine->steady[which] = err ? NULL : value;
    Py_XDECREF(value);
    return err;
}

static int follow_text(struct fm_environ_cache *mine, enum fm_steady which, const char *text)
{
    PyObject *before = mine->steady[which];
    if (before && strcmp((const char *)PyUnicode_1BYTE_DATA(before), text) == 0)
        return 0;
    return follow(mine, which, latin1(text, strlen(text)));
}

static int set_const(struct fm_environ_cache *mine, const char *key, PyObject *value) /* steals value */
{
    int err = value ? PyDict_SetItemString(mine->template, key, value) : -1;
    Py_XDECREF(value);
    return err;
}

/* A place in the template for what a request sets, in any case or unless this is its value. */
static int set_place(struct fm_environ_cache *mine, enum fm_name_id key, PyObject *value)
{
    return PyDict_SetItem(mine->template, fm_wsgi.name[key], value);
}

/* A new input for the template.  It has a position, and can be closed, so each request must have one of its own; but
 * one that no other request holds any more, and that is as new, is used again. */
static int renew_input(struct fm_environ_cache *mine)
{
    struct fm_body no_body;
    fm_body_init(&no_body);
    PyObject *input = fm_input_new(&no_body);
    if (set_const(mine, "wsgi.input", input) != 0)
        return -1;
    mine->no_input = input;
    return 0;
}

static int set_constants(struct fm_environ_cache *mine)
{
    const struct fm_wsgi_config *config = &fm_wsgi.config;
    const struct {
        const char *key, *text; /* or NULL: */
        bool yes;
    } constants[] = {
        {"wsgi.url_scheme", "http", false},
        {"GATEWAY_INTERFACE", "CGI/1.1", false},
        {"SCRIPT_NAME", config->root_path ? config->root_path : "", false},
        {"SERVER_SOFTWARE", "fermata/" FM_VERSION, false},
        {"wsgi.multithread", NULL, config->multithread},
        {"wsgi.multiprocess", NULL, config->multiprocess},
        {"wsgi.run_once", NULL, false},
        {"wsgi.input_terminated", NULL, true},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        const char *text = constants[i].text;
        PyObject *value = text ? latin1(text, strlen(text)) : PyBool_FromLong(constants[i].yes);
        if (set_const(mine, constants[i].key, value) != 0)
            return -1;
    }
    if (set_const(mine, "wsgi.version", Py_BuildValue("(ii)", 1, 0)) != 0 ||
        set_const(mine, "wsgi_plus.version", Py_BuildValue("(ii)", 1, 0)) != 0)
        return -1;
    return set_const(mine, "wsgi.file_wrapper", Py_NewRef((PyObject *)fm_wsgi.file_wrapper_type));
}

/* What requests share until one has something else. */
static int set_first(struct fm_environ_cache *mine)
{
    static const char *const first[FM_S_COUNT] = {
        [FM_S_REQUEST_METHOD] = "GET", [FM_S_REQUEST_URI] = "/", [FM_S_PATH_INFO] = "/"};
    for (int i = 0; i < FM_S_COUNT; i++)
        if (follow_text(mine, (enum fm_steady)i, first[i] ? first[i] : "") != 0)
            return -1;
    return set_place(mine, FM_N_SERVER_PROTOCOL, fm_wsgi.name[FM_N_HTTP_1_1]) ||
                   set_place(mine, FM_N_REMOTE_PORT, Py_None)
               ? -1
               : 0;
}

static int make_template(struct fm_environ_cache *mine)
{
    if (!(mine->template = PyDict_New()))
        return -1;
    if (set_constants(mine) || set_first(mine) || set_const(mine, "wsgi.errors", fm_errors_new()) ||
        renew_input(mine)) {
        fm_environ_fini(mine); /* the next request begins anew */
        return -1;
    }
    return 0;
}

void fm_environ_fini(struct fm_environ_cache *mine)
{
    Py_CLEAR(mine->template);
    mine->id = mine->no_input = NULL;
    mine->server = NULL;
    memset(mine->steady, 0, sizeof mine->steady);
    for (int i = 0; i < FM_H_OTHER; i++)
        Py_CLEAR(mine->last_value[i]);
    for (int i = 0; i < FM_PORTS; i++)
        Py_CLEAR(mine->ports[i].text);
}

/* ---- of a request ---- */

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

static int put_field(struct fm_environ_cache *mine, PyObject *env, const struct fm_request *r, const struct fm_field *f,
                     uint64_t *seen)
{
    if (f->id == FM_H_HOST)
        return 0; /* the template has it */
    if (f->id == FM_H_TRANSFER_ENCODING)
        return 0; /* the body is decoded (RFC 9112, 7.1.3): an application that sees the field would decode it again */
    const char *name = r->head + f->name_off;
    bool known = f->id < FM_H_OTHER;
    PyObject *key = known ? Py_NewRef(fm_wsgi.header_key[f->id]) : make_key(name, f->name_len);
    PyObject *value = header_value(mine, f->id, r->head + f->value_off, f->value_len);
    bool again = !known || (*seen >> f->id & 1); /* for an unknown name only a look-up can tell */
    if (known)
        *seen |= 1ull << f->id;
    if (key && value && again) {
        PyObject *before;
        int found = fm_dict_get(env, key, &before);
        if (found > 0)
            value = join(before, value, f->id);
        else if (found < 0)
            Py_CLEAR(value);
        Py_XDECREF(before);
    }
    int err = key ? put(env, key, value) : -1;
    Py_XDECREF(key);
    return err;
}

static int put_headers(struct fm_environ_cache *mine, PyObject *env, const struct fm_request *r)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < r->nfields; i++)
        if (put_field(mine, env, r, &r->fields[i], &seen) != 0)
            return -1;
    /* The body is complete, so its length is known also where it came in chunks: frameworks read by CONTENT_LENGTH. */
    if (r->chunked &&
        put(env, fm_wsgi.name[FM_N_CONTENT_LENGTH], PyUnicode_FromFormat("%llu", (unsigned long long)r->body.size)))
        return -1;
    return 0;
}

/* PATH_INFO is what follows SCRIPT_NAME (RFC 3875, 4.1.5), unless a proxy has taken that off already. */
static PyObject *path_info(const struct fm_request *r)
{
    const char *root = fm_wsgi.config.root_path;
    PyObject *path = decode_path(fm_request_text(r, r->path), r->path.len);
    size_t len = root ? strlen(root) : 0, have = path ? (size_t)PyUnicode_GET_LENGTH(path) : 0;
    if (len == 0 || have < len || memcmp(PyUnicode_1BYTE_DATA(path), root, len) != 0)
        return path;
    const char *rest = (const char *)PyUnicode_1BYTE_DATA(path) + len;
    PyObject *info = have == len || *rest == '/' ? latin1(rest, have - len) : Py_NewRef(path);
    Py_DECREF(path);
    return info;
}

/* The target as it came, its path and its query; all the same if the target is. */
static int follow_target(struct fm_environ_cache *mine, const struct fm_request *r)
{
    const char *target = fm_request_text(r, r->target);
    if (is_text(mine->steady[FM_S_REQUEST_URI], target, r->target.len))
        return 0;
    mine->steady[FM_S_REQUEST_URI] = NULL; /* until all three are set: it stands for them */
    return follow(mine, FM_S_PATH_INFO, path_info(r)) ||
                   follow(mine, FM_S_QUERY_STRING, latin1(fm_request_text(r, r->query), r->query.len)) ||
                   follow(mine, FM_S_REQUEST_URI, latin1(target, r->target.len))
               ? -1
               : 0;
}

/* A unix socket has no port. */
static int put_port(struct fm_environ_cache *mine, PyObject *env, const struct fm_peer *peer)
{
    if (!*peer->remote_addr)
        return PyDict_DelItem(env, fm_wsgi.name[FM_N_REMOTE_PORT]);
    PyObject *port = port_text(mine, peer->remote_port);
    return port ? PyDict_SetItem(env, fm_wsgi.name[FM_N_REMOTE_PORT], port) : -1;
}

static int fill(struct fm_environ_cache *mine, PyObject *env, struct fm_call *call)
{
    const struct fm_request *r = call->request;
    if (put_headers(mine, env, r))
        return -1;
    if (r->minor == 0 && PyDict_SetItem(env, fm_wsgi.name[FM_N_SERVER_PROTOCOL], fm_wsgi.name[FM_N_HTTP_1_0]))
        return -1;
    if (put_port(mine, env, &call->peer) != 0)
        return -1;
    /* The template has the host.  One that is empty is only there if the client sent it so. */
    if (r->host.len == 0 && !fm_request_find(r, FM_H_HOST) && PyDict_DelItem(env, fm_wsgi.name[FM_N_HTTP_HOST]))
        return -1;
    if ((r->forwarded.any || call->peer.via) && fm_environ_told(env, r, &call->peer) != 0)
        return -1;
    return r->body.size > 0 ? put(env, fm_wsgi.name[FM_N_WSGI_INPUT], fm_input_new(&call->request->body)) : 0;
}

static int follow_server(struct fm_environ_cache *mine, const struct fm_peer *peer)
{
    mine->server = NULL; /* until both are set */
    if (follow_text(mine, FM_S_SERVER_NAME, peer->server_name) ||
        follow_text(mine, FM_S_SERVER_PORT, peer->server_port))
        return -1;
    mine->server = peer->server_name;
    return 0;
}

/* May its text be changed?  As CPython has it for strings that it makes (unicode_modifiable in unicodeobject.c): there
 * is one reference, so no other thread can get one, and it is neither interned nor has it been a key.  Without a GIL
 * never: that another thread has given its reference up does not say that it sees the old text when it has read it. */
static bool is_own(PyObject *s)
{
#ifdef Py_GIL_DISABLED
    (void)s;
    return false;
#else
    return s && Py_REFCNT(s) == 1 && ((PyASCIIObject *)s)->hash == -1 && !PyUnicode_CHECK_INTERNED(s);
#endif
}

/* The template has the request's id.  Where the application has not kept the last one the same string is used again, as
 * a new one for each request would cost a hello 3 % of its instructions. */
static int follow_id(struct fm_environ_cache *mine, const struct fm_request *r)
{
    bool made = r->id_off == 0;
    if (made && is_own(mine->id)) {
        memcpy(PyUnicode_DATA(mine->id), r->made_id, FM_ID_MADE);
        return 0;
    }
    PyObject *text = latin1(fm_request_id(r), r->id_len);
    int err = text ? set_place(mine, FM_N_REQUEST_ID, text) : -1;
    mine->id = err || !made ? NULL : text;
    Py_XDECREF(text);
    return err;
}

/* Has the template what this request shares with others. */
static int follow_request(struct fm_environ_cache *mine, const struct fm_request *r, const struct fm_peer *peer)
{
    const char *method = fm_request_text(r, r->method);
    if ((!is_text(mine->steady[FM_S_REQUEST_METHOD], method, r->method.len) &&
         follow(mine, FM_S_REQUEST_METHOD, latin1(method, r->method.len))) ||
        follow_text(mine, FM_S_REMOTE_ADDR, peer->remote_addr) ||
        (mine->server != peer->server_name && follow_server(mine, peer)) || follow_target(mine, r) ||
        (r->body.size == 0 && !fm_input_is_unused(mine->no_input) && renew_input(mine)) ||
        (r->id_len > 0 && follow_id(mine, r)))
        return -1;
    /* An absolute-form target names the host that counts, else it is the field (RFC 9112, 3.2.2). */
    const char *host = fm_request_text(r, r->host);
    return is_text(mine->steady[FM_S_HTTP_HOST], host, r->host.len)
               ? 0
               : follow(mine, FM_S_HTTP_HOST, latin1(host, r->host.len));
}

PyObject *fm_environ_new(struct fm_environ_cache *mine, struct fm_call *call)
{
    if (!mine->template && make_template(mine) != 0)
        return NULL;
    if (follow_request(mine, call->request, &call->peer) != 0)
        return NULL;
    PyObject *env = PyDict_Copy(mine->template);
    if (env && fill(mine, env, call) != 0)
        Py_CLEAR(env);
    return env;
}
