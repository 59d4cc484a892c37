/* The environ of any request that is accepted: each key is one that PEP 3333 or CGI knows, or HTTP_ and a field's name;
 * all text is latin-1; no field is lost, made up, or left over from another request; a repeated one is joined; what was
 * sent with an underscore shadows nothing; path, query, body and lengths are those of the request.
 *
 * Input: a byte whose lowest bit says that the client came over a unix socket; a stream of requests.  Or a case of
 * tests/http.
 *
 * Covers: src/wsgi/environ.c src/wsgi/input.c src/wsgi/state.c */
#include "python.h"

#include "recogniser.h"

static const char *const cgi_keys[] = {
    /* of every environ, but for the last two */
    "REQUEST_METHOD", "SCRIPT_NAME",     "PATH_INFO",       "QUERY_STRING",      "SERVER_NAME",
    "SERVER_PORT",    "SERVER_PROTOCOL", "SERVER_SOFTWARE", "GATEWAY_INTERFACE", "REQUEST_URI",
    "REMOTE_ADDR",    "REMOTE_PORT",     "CONTENT_LENGTH",  "CONTENT_TYPE",
};

/* ---- what the environ must be, made by another way: a dictionary of strings ---- */

static PyObject *latin1(const char *p, size_t n)
{
    PyObject *s = PyUnicode_DecodeLatin1(n ? p : "", (Py_ssize_t)n, NULL);
    if (!s)
        fuzz_python_failed("a string");
    return s;
}

static void expect(PyObject *want, const char *key, PyObject *value) /* steals value */
{
    if (!value || PyDict_SetItemString(want, key, value) != 0)
        fuzz_python_failed(key);
    Py_DECREF(value);
}

static int hex_value(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static PyObject *decoded(struct rec_text path)
{
    char *out = malloc(path.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < path.len; i++) {
        bool escape =
            path.at[i] == '%' && path.len - i > 2 && hex_value(path.at[i + 1]) >= 0 && hex_value(path.at[i + 2]) >= 0;
        out[n++] = escape ? (char)(hex_value(path.at[i + 1]) * 16 + hex_value(path.at[i + 2])) : path.at[i];
        i += escape ? 2 : 0;
    }
    PyObject *s = latin1(out, n);
    free(out);
    return s;
}

static void expect_field(PyObject *want, const struct rec_field *f)
{
    char key[9000] = "HTTP_", *to = key + 5;
    for (size_t i = 0; i < f->name.len; i++) {
        char c = f->name.at[i];
        if (c == '_')
            return; /* dropped */
        *to++ = c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
    }
    *to = '\0';
    const char *name = key;
    if (strcmp(key, "HTTP_TRANSFER_ENCODING") == 0)
        return; /* the body is decoded */
    if (strcmp(key, "HTTP_CONTENT_LENGTH") == 0 || strcmp(key, "HTTP_CONTENT_TYPE") == 0)
        name = key + 5;
    PyObject *value = latin1(f->value.at, f->value.len), *before = PyDict_GetItemString(want, name);
    if (before) {
        PyObject *joined = PyUnicode_FromFormat(strcmp(key, "HTTP_COOKIE") == 0 ? "%U; %U" : "%U, %U", before, value);
        Py_DECREF(value);
        value = joined;
    }
    expect(want, name, value);
}

static PyObject *expected(const struct rec_request *q, const struct fm_peer *peer)
{
    PyObject *want = PyDict_New();
    struct rec_text slash = {"/", 1};
    expect(want, "REQUEST_METHOD", latin1(q->method.at, q->method.len));
    expect(want, "REQUEST_URI", latin1(q->target.at, q->target.len));
    expect(want, "PATH_INFO", decoded(q->path.len ? q->path : slash));
    expect(want, "QUERY_STRING", latin1(q->query.at, q->query.len));
    expect(want, "SCRIPT_NAME", latin1("", 0));
    expect(want, "SERVER_PROTOCOL", PyUnicode_FromFormat("HTTP/1.%d", q->minor));
    expect(want, "SERVER_NAME", latin1(peer->server_name, strlen(peer->server_name)));
    expect(want, "SERVER_PORT", latin1(peer->server_port, strlen(peer->server_port)));
    expect(want, "REMOTE_ADDR", latin1(peer->remote_addr, strlen(peer->remote_addr)));
    if (*peer->remote_addr)
        expect(want, "REMOTE_PORT", PyUnicode_FromFormat("%u", peer->remote_port));
    expect(want, "GATEWAY_INTERFACE", latin1("CGI/1.1", 7));
    for (size_t i = 0; i < q->nfields; i++)
        expect_field(want, &q->fields[i]);
    if (q->chunked) /* frameworks read by it */
        expect(want, "CONTENT_LENGTH", PyUnicode_FromFormat("%zu", q->body_len));
    if (q->host.at) /* the authority of an absolute target wins */
        expect(want, "HTTP_HOST", latin1(q->host.at, q->host.len));
    return want;
}

/* ---- and what it is ---- */

static void check_key(const char *key, size_t n)
{
    for (size_t i = 0; i < sizeof cgi_keys / sizeof *cgi_keys; i++)
        if (strcmp(key, cgi_keys[i]) == 0)
            return;
    if (n < 6 || memcmp(key, "HTTP_", 5) != 0)
        fuzz_fail("a key is %s", key);
    for (size_t i = 5; i < n; i++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_!#$%&'*+.^`|~", key[i]))
            fuzz_fail("a key is %s", key);
}

/* All but what is the server's own, which are objects mostly. */
static void check_strings(PyObject *env, PyObject *want)
{
    PyObject *key, *value;
    Py_ssize_t at = 0, strings = 0, n;
    while (PyDict_Next(env, &at, &key, &value)) {
        const char *name = PyUnicode_AsUTF8AndSize(key, &n);
        if (!name)
            fuzz_python_failed("a key");
        if (strncmp(name, "wsgi", 4) == 0 || strcmp(name, "SERVER_SOFTWARE") == 0)
            continue;
        check_key(name, (size_t)n);
        if (!PyUnicode_CheckExact(value) || PyUnicode_MAX_CHAR_VALUE(value) > 0xff)
            fuzz_fail("%s is not latin-1", name);
        PyObject *other = PyDict_GetItem(want, key);
        if (!other || PyUnicode_Compare(value, other) != 0)
            fuzz_fail("%s is '%s', but should be '%s'", name, PyUnicode_AsUTF8(value),
                      other ? PyUnicode_AsUTF8(other) : "missing");
        strings++;
    }
    if (strings != PyDict_GET_SIZE(want))
        fuzz_fail("%zd strings, but %zd are wanted", strings, PyDict_GET_SIZE(want));
}

static void check_input(PyObject *env, const struct rec_request *q)
{
    PyObject *in = PyDict_GetItemString(env, "wsgi.input");
    PyObject *lines = in ? PyObject_CallMethod(in, "readlines", NULL) : NULL, *empty = PyBytes_FromString("");
    PyObject *body = lines && empty ? PyObject_CallMethod(empty, "join", "O", lines) : NULL;
    if (!body)
        fuzz_python_failed("wsgi.input");
    if ((size_t)PyBytes_GET_SIZE(body) != q->body_len ||
        (q->body_len && memcmp(PyBytes_AS_STRING(body), q->body, q->body_len) != 0))
        fuzz_fail("wsgi.input has %zd bytes instead of %zu, or others", PyBytes_GET_SIZE(body), q->body_len);
    Py_DECREF(body);
    Py_DECREF(empty);
    Py_DECREF(lines);
}

static void check_request(struct fm_request *request, const struct rec_request *q, const struct fm_peer *peer)
{
    struct fm_call call = {.request = request, .peer = *peer};
    static struct fm_environ_cache mine;
    PyObject *env = fm_environ_new(&mine, &call);
    if (!env)
        fuzz_python_failed("environ");
    PyObject *want = expected(q, peer);
    check_strings(env, want);
    check_input(env, q);
    Py_DECREF(want);
    Py_DECREF(env);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fm_peer peers[] = {{"192.0.2.1", 54321, "a.example", "80", NULL}, {"", 0, "unix", "", NULL}};
    static struct rec_request want;
    struct fuzz_stream in = fuzz_case(data, size);
    if (size < 1 || size > 16384)
        return -1;
    const char *s = in.s ? in.s : (const char *)data + 1;
    size_t len = in.s ? in.len : size - 1, at = 0;
    struct replay whole;
    replay(&whole, &fuzz_limits, s, len, NULL);
    for (size_t i = 0; i < whole.nrequests; i++) {
        if (rec_read(s + at, len - at, &want) != REC_ACCEPT)
            fuzz_fail("by the grammar, this is no request");
        check_request(whole.requests[i], &want, &peers[data[0] & 1]);
        at += want.end;
        rec_fini(&want);
    }
    replay_fini(&whole);
    return 0;
}
