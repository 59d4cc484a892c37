/* Replays tests/http (see its README.md): every case whole and cut in many ways, against what the case says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <dirent.h>

#include "fermata/http/headers.h"
#include "replay.h"

#ifndef FM_TESTS_HTTP
#define FM_TESTS_HTTP "tests/http"
#endif

#define CASES_MAX 1024
#define CUT_ANYWHERE_MAX 2048 /* longer streams are not cut in two at every byte */

static const struct fm_http_limits defaults = {.request_line = 8190,
                                               .fields = 100,
                                               .field_size = 8190,
                                               .body = 1 << 20};

struct http_case {
    char path[512];
    char *text; /* the whole file, NUL-terminated */
    char *about, *stream;
    size_t about_len, len;
    struct fm_http_limits limits;
};

static void read_case(struct http_case *c)
{
    FILE *f = fopen(c->path, "rb");
    assert_non_null(f);
    c->text = calloc(1, 1 << 20);
    size_t n = fread(c->text, 1, (1 << 20) - 1, f);
    fclose(f);
    char *line = memmem(c->text, n, "\n---\n", 5);
    assert_non_null(line);
    c->about = c->text;
    c->about_len = (size_t)(line + 1 - c->text);
    c->stream = line + 5;
    c->len = n - (size_t)(c->stream - c->text);
}

static void set_limits(struct fm_http_limits *limits, char *value)
{
    const struct {
        const char *name;
        uint32_t *number;
    } known[] = {{"request_line", &limits->request_line},
                 {"fields", &limits->fields},
                 {"field_size", &limits->field_size}};
    for (char *word; (word = strsep(&value, " "));) {
        char *number = strchr(word, '=');
        assert_non_null(number);
        *number++ = '\0';
        bool found = strcmp(word, "body") == 0;
        if (found)
            limits->body = strtoull(number, NULL, 10);
        for (size_t i = 0; !found && i < sizeof known / sizeof *known; i++)
            if ((found = strcmp(word, known[i].name) == 0))
                *known[i].number = (uint32_t)strtoul(number, NULL, 10);
        assert_true(found);
    }
}

/* ---- what a case says ---- */

struct check {
    const struct replay *got;
    const struct fm_request *r; /* the request of the lines being read */
    size_t nrequests;
    const char *persist; /* of that request */
    unsigned long long length;
    char *body;
};

static char *copy(const struct fm_request *r, struct fm_span s) { return strndup(fm_request_text(r, s), s.len); }

static void assert_span(const struct fm_request *r, struct fm_span s, const char *value)
{
    char *text = copy(r, s);
    assert_string_equal(text, value);
    free(text);
}

/* The request whose lines end here had the body and persistence that were said, or the usual ones. */
static void end_request(struct check *k)
{
    if (!k->r)
        return;
    assert_string_equal(k->r->keep_alive ? "keep-alive" : "close", k->persist);
    assert_int_equal(k->r->body.size, k->body ? strlen(k->body) : k->length);
    if (k->body) {
        char *text = replay_body(k->r);
        assert_string_equal(text, k->body);
        free(text);
    }
    k->persist = "keep-alive";
    k->length = 0;
    k->body = NULL;
}

static void key_request(struct check *k, char *value)
{
    end_request(k);
    assert_true(k->nrequests < k->got->nrequests);
    k->r = k->got->requests[k->nrequests++];
    char *target = strchr(value, ' ');
    assert_non_null(target);
    *target++ = '\0';
    assert_span(k->r, k->r->method, value);
    assert_span(k->r, k->r->target, target);
}

static void key_field(struct check *k, char *value)
{
    char *colon = strchr(value, ':');
    assert_non_null(colon);
    for (unsigned i = 0; i < k->r->nfields; i++) {
        const struct fm_field *f = &k->r->fields[i];
        if (fm_ascii_ieq(k->r->head + f->name_off, f->name_len, value, (size_t)(colon - value))) {
            assert_span(k->r, (struct fm_span){f->value_off, f->value_len}, colon + 2);
            return;
        }
    }
    fail_msg("no field %s", value);
}

static void key_status(struct check *k, char *value)
{
    assert_non_null(k->got->error);
    assert_int_equal(k->got->error->status, atol(value));
}

static void key_slug(struct check *k, char *value) { assert_string_equal(k->got->error->slug, value); }
static void key_path(struct check *k, char *value) { assert_span(k->r, k->r->path, value); }
static void key_query(struct check *k, char *value) { assert_span(k->r, k->r->query, value); }
static void key_host(struct check *k, char *value) { assert_span(k->r, k->r->host, value); }
static void key_nfields(struct check *k, char *value) { assert_int_equal(k->r->nfields, atol(value)); }
static void key_persist(struct check *k, char *value) { k->persist = value; }
static void key_body(struct check *k, char *value) { k->body = value; }
static void key_length(struct check *k, char *value) { k->length = (unsigned long long)atol(value); }
static void key_expect(struct check *k, char *value)
{
    assert_string_equal(k->r->expect_continue ? "100-continue" : "", value);
}
static void key_note(struct check *k, char *value) { (void)k, (void)value; }
static void key_end(struct check *k, char *value)
{
    (void)value;
    end_request(k);
}

static const struct {
    const char *key;
    void (*check)(struct check *k, char *value);
} keys[] = {
    {"rfc", key_note},      {"about", key_note},    {"limits", key_note},     {"request", key_request},
    {"field", key_field},   {"status", key_status}, {"slug", key_slug},       {"path", key_path},
    {"query", key_query},   {"host", key_host},     {"nfields", key_nfields}, {"persist", key_persist},
    {"length", key_length}, {"body", key_body},     {"expect", key_expect},   {"", key_end},
};

/* Calls each for every line of the case, and with an empty key at the end, while the values are still there. */
static void for_lines(const struct http_case *c, void (*each)(void *arg, const char *key, char *value), void *arg)
{
    char *about = strndup(c->about, c->about_len), *rest = about, *line;
    while ((line = strsep(&rest, "\n")) && *line) {
        char *value = strstr(line, ": ");
        assert_non_null(value);
        *value = '\0';
        each(arg, line, value + 2);
    }
    each(arg, "", NULL);
    free(about);
}

static void line_limits(void *arg, const char *key, char *value)
{
    struct http_case *c = arg;
    if (strcmp(key, "limits") == 0)
        set_limits(&c->limits, value);
}

static void line_check(void *arg, const char *key, char *value)
{
    struct check *k = arg;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i].key, key) == 0) {
            keys[i].check(k, value);
            return;
        }
    fail_msg("unknown key %s", key);
}

static void check_case(const struct http_case *c, const struct replay *got)
{
    struct check k = {.got = got, .persist = "keep-alive"};
    for_lines(c, line_check, &k);
    assert_int_equal(k.nrequests, got->nrequests);
}

/* ---- cutting ---- */

static void same_when_cut(const struct http_case *c, const struct replay *whole, const unsigned char *cut,
                          const char *how, size_t at)
{
    struct replay got;
    replay(&got, &c->limits, c->stream, c->len, cut);
    if (!replay_same(whole, &got))
        fail_msg("%s: %s (at %zu) gives\n%.*s\ninstead of\n%.*s", c->path, how, at, (int)got.transcript.len,
                 got.transcript.data, (int)whole->transcript.len, whole->transcript.data);
    replay_fini(&got);
}

static void cut_case(const struct http_case *c, const struct replay *whole)
{
    unsigned char *cut = calloc(1, c->len + 3);
    memset(cut, 1, c->len);
    same_when_cut(c, whole, cut, "byte by byte", 0);
    for (size_t shift = 0; shift < 3; shift++) {
        memset(cut, 0, c->len);
        for (size_t i = 0; i + 1 < c->len; i++)
            if (memcmp(c->stream + i, "\r\n", 2) == 0)
                cut[i + shift] = 1;
        same_when_cut(c, whole, cut, "cut at each CRLF", shift);
    }
    memset(cut, 0, c->len + 3);
    for (size_t i = 1; i < c->len && c->len <= CUT_ANYWHERE_MAX; i++) {
        cut[i] = 1;
        same_when_cut(c, whole, cut, "cut in two", i);
        cut[i] = 0;
    }
    free(cut);
}

static void test_case(void **state)
{
    struct http_case *c = *state;
    read_case(c);
    c->limits = defaults;
    for_lines(c, line_limits, c);
    struct replay whole;
    replay(&whole, &c->limits, c->stream, c->len, NULL);
    assert_int_equal(whole.error != NULL, strstr(c->path, "/invalid/") != NULL);
    if (!whole.error) {
        assert_false(whole.started);
        assert_true(whole.nrequests > 0);
    }
    check_case(c, &whole);
    cut_case(c, &whole);
    replay_fini(&whole);
    free(c->text);
}

/* ---- the list of cases ---- */

static struct http_case cases[CASES_MAX];
static struct CMUnitTest tests[CASES_MAX];
static size_t ncases;

static int is_case(const struct dirent *e)
{
    const char *dot = strrchr(e->d_name, '.');
    return dot && strcmp(dot, ".http") == 0;
}

static int list(const char *kind)
{
    char dir[256];
    struct dirent **names;
    snprintf(dir, sizeof dir, "%s/%s", FM_TESTS_HTTP, kind);
    int n = scandir(dir, &names, is_case, alphasort);
    for (int i = 0; i < n && ncases < CASES_MAX; i++) {
        struct http_case *c = &cases[ncases];
        snprintf(c->path, sizeof c->path, "%s/%s", dir, names[i]->d_name);
        tests[ncases++] = (struct CMUnitTest){.name = c->path, .test_func = test_case, .initial_state = c};
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    return n;
}

int main(void)
{
    if (list("valid") <= 0 || list("invalid") <= 0) {
        fprintf(stderr, "no cases in %s\n", FM_TESTS_HTTP);
        return 1;
    }
    return _cmocka_run_group_tests("cases", tests, ncases, NULL, NULL);
}
