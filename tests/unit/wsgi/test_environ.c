/* environ: all keys of PEP 3333, text as latin-1, repeated headers, and that nothing of one request is seen in another,
 * nor of one thread in another. */
#include "gateway.h"

static struct fm_environ_cache mine, other;

/* Makes `env` of this request. */
static void make(struct fm_environ_cache *of, const char *text, const struct fm_peer *peer)
{
    struct exchange x;
    make_call(&x, text);
    if (peer)
        x.call.peer = *peer;
    py_set("env", fm_environ_new(of, &x.call));
    drop_call(&x);
}

#define HEAD "GET /a%20b/?x=%20y HTTP/1.1\r\nHost: example.net:81\r\n"

static void test_all_keys(void **state)
{
    (void)state;
    make(&mine, HEAD "User-Agent: test\r\n\r\n", NULL);
    assert_py("env['REQUEST_METHOD'] == 'GET' and env['SCRIPT_NAME'] == ''");
    assert_py("env['PATH_INFO'] == '/a b/' and env['QUERY_STRING'] == 'x=%20y'");
    assert_py("env['REQUEST_URI'] == '/a%20b/?x=%20y'");
    assert_py("env['SERVER_NAME'] == 'server.example' and env['SERVER_PORT'] == '8000'");
    assert_py("env['SERVER_PROTOCOL'] == 'HTTP/1.1' and env['GATEWAY_INTERFACE'] == 'CGI/1.1'");
    assert_py("env['SERVER_SOFTWARE'].startswith('fermata/')");
    assert_py("env['REMOTE_ADDR'] == '192.0.2.1' and env['REMOTE_PORT'] == '54321'");
    assert_py("env['HTTP_HOST'] == 'example.net:81' and env['HTTP_USER_AGENT'] == 'test'");
    assert_py("env['wsgi.version'] == (1, 0) and env['wsgi_plus.version'] == (1, 0)");
    assert_py("env['wsgi.url_scheme'] == 'http'");
    assert_py("env['wsgi.multithread'] is True and env['wsgi.multiprocess'] is False");
    assert_py("env['wsgi.run_once'] is False and env['wsgi.input_terminated'] is True");
    assert_py("env['wsgi.input'].read() == b'' and hasattr(env['wsgi.errors'], 'write')");
    assert_py("env['wsgi.file_wrapper'].__name__ == 'FileWrapper'");
    assert_py("'CONTENT_LENGTH' not in env and 'CONTENT_TYPE' not in env");
    assert_py("type(env) is dict and len(env) == 24");
    assert_py("all(type(k) is str for k in env)");
}

static void test_repeated_headers(void **state)
{
    (void)state;
    make(&mine, HEAD "X-A: 1\r\nAccept: a\r\nx-a: 2\r\nCookie: c=1\r\nCookie: d=2\r\nAccept: b\r\nX-A: 3\r\n\r\n",
         NULL);
    assert_py("env['HTTP_X_A'] == '1, 2, 3' and env['HTTP_ACCEPT'] == 'a, b'");
    assert_py("env['HTTP_COOKIE'] == 'c=1; d=2'");
}

static void test_latin1(void **state)
{
    (void)state;
    make(&mine, "GET /\xc3\xa4%C3%A4%ff?\xe4 HTTP/1.1\r\nHost: h\r\nX-Name: \xe4\xc3\xa4\r\n\r\n", NULL);
    assert_py("env['PATH_INFO'] == '/\\xc3\\xa4\\xc3\\xa4\\xff'");
    assert_py("env['QUERY_STRING'] == '\\xe4' and env['HTTP_X_NAME'] == '\\xe4\\xc3\\xa4'");
    assert_py("env['PATH_INFO'].encode('latin-1').startswith(b'/\\xc3\\xa4')");
}

static void test_path(void **state)
{
    static const char *const cases[][2] = {
        {"/%", "/%"},     {"/%2", "/%2"},     {"/%2f%2F", "///"}, {"/%zz%41", "/%zzA"},
        {"/%%41", "/%A"}, {"/%00", "/\\x00"}, {"*", "*"},         {"http://other.example/p?q", "/p"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: h\r\n\r\n", *cases[i][0] == '*' ? "OPTIONS" : "GET",
                 cases[i][0]);
        make(&mine, text, NULL);
        snprintf(text, sizeof text, "env['PATH_INFO'] == '%s' and env['REQUEST_URI'] == '%s'", cases[i][1],
                 cases[i][0]);
        assert_py(text);
    }
    assert_py("env['HTTP_HOST'] == 'other.example' and env['QUERY_STRING'] == 'q'");
    assert_py("env['SCRIPT_NAME'] == ''");
}

static void test_long_path_and_name(void **state)
{
    char path[2001], name[1001], text[4000];
    (void)state;
    for (int i = 0; i < 2000; i += 4)
        memcpy(path + i, "%41b", 4);
    path[2000] = '\0';
    memset(name, 'n', 1000);
    name[1000] = '\0';
    snprintf(text, sizeof text, "GET /%s HTTP/1.1\r\nHost: h\r\n%s: v\r\n\r\n", path, name);
    make(&mine, text, NULL);
    assert_py("env['PATH_INFO'] == '/' + 'Ab' * 500 and env['HTTP_' + 'N' * 1000] == 'v'");
}

static void test_body(void **state)
{
    (void)state;
    make(&mine, "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: text/x\r\nContent-Length: 3\r\n\r\nabc", NULL);
    assert_py("env['CONTENT_LENGTH'] == '3' and env['CONTENT_TYPE'] == 'text/x'");
    assert_py("'HTTP_CONTENT_TYPE' not in env and 'HTTP_CONTENT_LENGTH' not in env");
    assert_py("env['wsgi.input'].read() == b'abc'");
    make(&mine, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
         NULL);
    assert_py("env['CONTENT_LENGTH'] == '4' and 'HTTP_TRANSFER_ENCODING' not in env");
    assert_py("env['wsgi.input'].read() == b'abcd'");
}

static void test_http_1_0(void **state)
{
    (void)state;
    make(&mine, "GET / HTTP/1.0\r\n\r\n", NULL);
    assert_py("env['SERVER_PROTOCOL'] == 'HTTP/1.0' and 'HTTP_HOST' not in env");
    make(&mine, "GET / HTTP/1.0\r\nHost:\r\n\r\n", NULL);
    assert_py("env['HTTP_HOST'] == ''");
}

/* What a proxy has told takes the place of what the connection says. */
static void told(const char *text, const struct fm_forwarded *f, const struct fm_peer *peer)
{
    struct exchange x;
    make_call(&x, text);
    x.call.request->forwarded = *f;
    x.call.request->forwarded.any = true;
    if (peer)
        x.call.peer = *peer;
    py_set("env", fm_environ_new(&mine, &x.call));
    drop_call(&x);
}

static void test_told(void **state)
{
    static const struct fm_ip client = {{0x20, 1, 0xd, 0xb8, [15] = 9}};
    const struct fm_peer via = {"203.0.113.9", 4711, "s", "80", "192.0.2.1"}, on_unix = {"", 0, "s", "80", NULL};
    (void)state;
    told(HEAD "\r\n", &(struct fm_forwarded){.scheme = FM_SCHEME_HTTPS}, NULL);
    assert_py("env['wsgi.url_scheme'] == 'https' and env['REMOTE_ADDR'] == '192.0.2.1'");
    assert_py("env['HTTP_HOST'] == 'example.net:81' and 'fermata.peer_addr' not in env");
    told(HEAD "\r\n", &(struct fm_forwarded){.has_client = true, .client = client}, NULL);
    assert_py("env['REMOTE_ADDR'] == '2001:db8::9' and 'REMOTE_PORT' not in env");
    assert_py("env['fermata.peer_addr'] == '192.0.2.1' and env['wsgi.url_scheme'] == 'http'");
    told(HEAD "\r\n", &(struct fm_forwarded){.has_client = true, .client = client, .client_port = 5}, &on_unix);
    assert_py("env['REMOTE_PORT'] == '5' and env['fermata.peer_addr'] == ''");
    told(HEAD "\r\n", &(struct fm_forwarded){.has_client = true, .client = client}, &on_unix);
    assert_py("'REMOTE_PORT' not in env and env['REMOTE_ADDR'] == '2001:db8::9'");
    told(HEAD "\r\n", &(struct fm_forwarded){0}, &via);
    assert_py("env['REMOTE_ADDR'] == '203.0.113.9' and env['fermata.peer_addr'] == '192.0.2.1'");
    make(&mine, HEAD "\r\n", NULL); /* the next one is as ever */
    assert_py("env['wsgi.url_scheme'] == 'http' and env['REMOTE_ADDR'] == '192.0.2.1'");
    assert_py("'fermata.peer_addr' not in env and env['SCRIPT_NAME'] == ''");
}

/* Hosts and ports are spans of the head: of a field that says all of them. */
static void test_told_hosts(void **state)
{
#define TOLD "GET / HTTP/1.1\r\nHost: a:81\r\nX: b.example [2001:db8::1] c:8443 /shop\r\n\r\n"
#define SPAN(text) {(uint32_t)(strstr(TOLD, text) - TOLD), sizeof text - 1}
    (void)state;
    told(TOLD, &(struct fm_forwarded){.host = SPAN("b.example")}, NULL);
    assert_py("(env['HTTP_HOST'], env['SERVER_NAME'], env['SERVER_PORT']) == ('b.example', 'b.example', '80')");
    told(TOLD, &(struct fm_forwarded){.host = SPAN("b.example"), .scheme = FM_SCHEME_HTTPS}, NULL);
    assert_py("(env['HTTP_HOST'], env['SERVER_PORT']) == ('b.example', '443')");
    told(TOLD, &(struct fm_forwarded){.host = SPAN("c:8443")}, NULL);
    assert_py("(env['HTTP_HOST'], env['SERVER_NAME'], env['SERVER_PORT']) == ('c:8443', 'c', '8443')");
    told(TOLD, &(struct fm_forwarded){.host = SPAN("[2001:db8::1]"), .port = 8443}, NULL);
    assert_py("(env['HTTP_HOST'], env['SERVER_NAME']) == ('[2001:db8::1]:8443', '[2001:db8::1]')");
    told(TOLD, &(struct fm_forwarded){.host = SPAN("c:8443"), .port = 443, .scheme = FM_SCHEME_HTTPS}, NULL);
    assert_py("(env['HTTP_HOST'], env['SERVER_PORT']) == ('c', '443')");
    told(TOLD, &(struct fm_forwarded){.port = 8080}, NULL);
    assert_py("(env['HTTP_HOST'], env['SERVER_NAME'], env['SERVER_PORT']) == ('a:8080', 'server.example', '8080')");
    told(TOLD, &(struct fm_forwarded){.prefix = SPAN("/shop")}, NULL);
    assert_py("(env['SCRIPT_NAME'], env['PATH_INFO'], env['HTTP_HOST']) == ('/shop', '/', 'a:81')");
}

static void test_unix_socket(void **state)
{
    const struct fm_peer peer = {"", 0, "localhost", "", NULL};
    (void)state;
    make(&mine, HEAD "\r\n", &peer);
    assert_py("env['REMOTE_ADDR'] == '' and 'REMOTE_PORT' not in env");
    assert_py("env['SERVER_NAME'] == 'localhost' and env['SERVER_PORT'] == ''");
}

static void test_nothing_is_left_of_another_request(void **state)
{
    (void)state;
    make(&mine,
         "POST /one?q HTTP/1.0\r\nX-Secret: s\r\nAuthorization: a\r\nUser-Agent: u\r\nContent-Length: 1\r\n\r\nb",
         NULL);
    PY("first, before = env, dict(env)");
    make(&mine, HEAD "\r\n", NULL);
    assert_py("set(env) - set(first) == set() or set(env) - set(first) == {'HTTP_HOST'}");
    assert_py("not {'HTTP_X_SECRET', 'HTTP_AUTHORIZATION', 'HTTP_USER_AGENT', 'CONTENT_LENGTH'} & set(env)");
    assert_py(
        "env['REQUEST_METHOD'] == 'GET' and env['PATH_INFO'] == '/a b/' and env['SERVER_PROTOCOL'] == 'HTTP/1.1'");
    assert_py("first == before");
    PY("env['PATH_INFO'] = 'changed'; env.clear()");
    make(&mine, HEAD "\r\n", NULL);
    assert_py("len(env) == 23 and env['PATH_INFO'] == '/a b/'");
}

/* Each request has an input of its own, though one that is as new is used again. */
static void test_inputs(void **state)
{
    (void)state;
    make(&mine, HEAD "\r\n", NULL);
    PY("first = env['wsgi.input']");
    make(&mine, HEAD "\r\n", NULL);
    assert_py("env['wsgi.input'] is not first");
    PY("env['wsgi.input'].close(); first.seek(7); del first, env");
    make(&mine, HEAD "\r\n", NULL);
    assert_py("not env['wsgi.input'].closed and env['wsgi.input'].tell() == 0");
}

static void test_threads_share_no_template(void **state)
{
    (void)state;
    make(&mine, HEAD "User-Agent: one\r\n\r\n", NULL);
    PyObject *template = mine.template, *input = mine.no_input, *agent = mine.last_value[FM_H_USER_AGENT];
    PY("one = env");
    make(&other, "GET /other HTTP/1.1\r\nHost: h\r\nUser-Agent: two\r\n\r\n", NULL);
    assert_true(mine.template == template && mine.no_input == input && mine.last_value[FM_H_USER_AGENT] == agent);
    assert_true(other.template && other.template != template && other.no_input != input);
    assert_py("one['PATH_INFO'] == '/a b/' and one['HTTP_USER_AGENT'] == 'one'");
    assert_py("env['PATH_INFO'] == '/other' and env['HTTP_USER_AGENT'] == 'two'");
    assert_py("env['wsgi.input'] is not one['wsgi.input'] and env['wsgi.errors'] is not one['wsgi.errors']");
}

/* Ports whose places in the cache are the same. */
static void test_ports(void **state)
{
    static const unsigned ports[] = {1, 1 + FM_PORTS, 1, 65535, 65535 - FM_PORTS, 80, 80};
    (void)state;
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++) {
        struct fm_peer peer = {"192.0.2.1", ports[i], "s", "80", NULL};
        char text[100];
        make(&mine, HEAD "\r\n", &peer);
        snprintf(text, sizeof text, "env['REMOTE_PORT'] == '%u'", ports[i]);
        assert_py(text);
    }
}

/* env of a request with this id, as the loop has given it; "" is none. */
static void identify(struct fm_environ_cache *of, const char *id)
{
    struct exchange x;
    make_call(&x, HEAD "\r\n");
    struct fm_request *r = x.call.request;
    r->id_len = (uint8_t)strlen(id);
    if (r->id_len == FM_ID_MADE)
        memcpy(r->made_id, id, FM_ID_MADE);
    else
        r->id_off = (uint32_t)(strstr(r->head, id) - r->head);
    py_set("env", fm_environ_new(of, &x.call));
    drop_call(&x);
}

#define ID_A "0123456789abcdef0123456789abcdef"
#define ID_B "fedcba9876543210fedcba9876543210"
#define ID_C "00112233445566778899aabbccddeeff"

/* The string of the last request is used again only where the application has kept it in no way. */
static void test_ids(void **state)
{
    static const char *const keeps[] = {
        "kept = env['fermata.request_id']",
        "kept = env",
        "kept = {env['fermata.request_id']: 1}",
        "import sys; kept = sys.intern(env['fermata.request_id'])",
        "kept = [env['fermata.request_id'], env['fermata.request_id'].upper()]",
    };
    (void)state;
    identify(&mine, ID_A);
    assert_py("env['fermata.request_id'] == '" ID_A "' and len(env) == 24");
    PY("env = None");
    PyObject *before = mine.id;
    identify(&mine, ID_B);
    assert_true(mine.id == before); /* nobody had it */
    assert_py("env['fermata.request_id'] == '" ID_B "'");
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++) {
        identify(&mine, ID_B);
        PY(keeps[i]);
        PY("shown = repr(kept); env = None");
        identify(&mine, ID_C);
        assert_py("repr(kept) == shown and env['fermata.request_id'] == '" ID_C "'");
        PY("kept = env = None");
    }
    /* One that was a key, or interned, and is no more. */
    identify(&mine, ID_A);
    PY("table = {env['fermata.request_id']: 1}; del table, env");
    identify(&mine, ID_B);
    assert_py("{env['fermata.request_id']: 1}['" ID_B "'] == 1");
    identify(&mine, "example.net"); /* one that was taken */
    assert_py("env['fermata.request_id'] == 'example.net'");
    identify(&mine, ID_A);
    assert_py("env['fermata.request_id'] == '" ID_A "'");
}

static int drop(void **state)
{
    (void)state;
    PY("env = first = one = kept = None");
    fm_environ_fini(&mine);
    fm_environ_fini(&other);
    return mine.template || mine.no_input || mine.steady[0];
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_repeated_headers),
        cmocka_unit_test(test_latin1),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_long_path_and_name),
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_http_1_0),
        cmocka_unit_test(test_told),
        cmocka_unit_test(test_told_hosts),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_nothing_is_left_of_another_request),
        cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_threads_share_no_template),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_ids),
    };
    start_gateway();
    int failed = cmocka_run_group_tests(tests, NULL, drop);
    stop_gateway();
    return failed;
}
