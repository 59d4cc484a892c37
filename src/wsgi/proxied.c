/* What trusted proxies say of a request (http/forwarded.h, net/proxy_protocol.h), in its environ. */
#include "internal.h"

#include <string.h>

static PyObject *text(const char *p, size_t n) { return PyUnicode_DecodeLatin1(p, (Py_ssize_t)n, NULL); }

static PyObject *number(unsigned n) { return PyUnicode_FromFormat("%u", n); }

/* Steals value. */
static int set(PyObject *env, const char *key, PyObject *value)
{
    int err = value ? PyDict_SetItemString(env, key, value) : -1;
    Py_XDECREF(value);
    return err;
}

/* The client in place of the proxy, whose address is still to be had. */
static int set_client(PyObject *env, const struct fm_forwarded *f, const struct fm_peer *peer)
{
    const char *proxy = peer->via ? peer->via : peer->remote_addr;
    char client[FM_IP_TEXT];
    if (set(env, "fermata.peer_addr", text(proxy, strlen(proxy))) != 0)
        return -1;
    if (!f->has_client)
        return 0; /* the PROXY protocol's is there already */
    fm_ip_text(&f->client, client);
    if (set(env, "REMOTE_ADDR", text(client, strlen(client))) != 0)
        return -1;
    if (f->client_port > 0)
        return set(env, "REMOTE_PORT", number(f->client_port));
    int has = PyDict_Contains(env, fm_wsgi.name[FM_N_REMOTE_PORT]);
    return has > 0 ? PyDict_DelItem(env, fm_wsgi.name[FM_N_REMOTE_PORT]) : has;
}

static bool is_https(const struct fm_forwarded *f) { return f->scheme == FM_SCHEME_HTTPS; }

/* Length of a host without its port. */
static size_t name_len(const char *host, size_t n)
{
    const char *bracket = n > 0 && *host == '[' ? memchr(host, ']', n) : NULL;
    const char *from = bracket ? bracket : host, *colon = memchr(from, ':', n - (size_t)(from - host));
    return colon ? (size_t)(colon - host) : n;
}

/* What the client has asked for, from which absolute URLs are made: the port is left out where it is the scheme's. */
static int set_host(PyObject *env, const struct fm_request *r)
{
    const struct fm_forwarded *f = &r->forwarded;
    struct fm_span span = f->host.len > 0 ? f->host : r->host;
    const char *host = fm_request_text(r, span);
    size_t n = name_len(host, span.len);
    unsigned usual = is_https(f) ? 443 : 80, port = f->port;
    if (f->host.len > 0 && set(env, "SERVER_NAME", text(host, n)) != 0)
        return -1;
    if (port == 0) { /* as the host has it */
        PyObject *told = n + 1 < span.len ? text(host + n + 1, span.len - n - 1) : number(usual);
        return set(env, "SERVER_PORT", told) || set(env, "HTTP_HOST", text(host, span.len)) ? -1 : 0;
    }
    if (span.len == 0) /* it has asked for none */
        return set(env, "SERVER_PORT", number(port));
    PyObject *name = text(host, n), *whole = NULL;
    if (name)
        whole = port == usual ? Py_NewRef(name) : PyUnicode_FromFormat("%U:%u", name, port);
    Py_XDECREF(name);
    return set(env, "HTTP_HOST", whole) || set(env, "SERVER_PORT", number(port)) ? -1 : 0;
}

int FM_COLD fm_environ_told(PyObject *env, const struct fm_request *r, const struct fm_peer *peer)
{
    const struct fm_forwarded *f = &r->forwarded;
    if ((f->has_client || peer->via) && set_client(env, f, peer) != 0)
        return -1;
    if (f->scheme != FM_SCHEME_UNTOLD &&
        set(env, "wsgi.url_scheme", PyUnicode_FromString(is_https(f) ? "https" : "http")))
        return -1;
    if ((f->host.len > 0 || f->port > 0) && set_host(env, r) != 0)
        return -1;
    return f->prefix.len > 0 ? set(env, "SCRIPT_NAME", text(fm_request_text(r, f->prefix), f->prefix.len)) : 0;
}
