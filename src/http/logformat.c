/* Lines of the access log; see http/logformat.h.
 *
 * An atom gives a value, text or a number; the format says how values become a line.  Values are taken from the request
 * as it came, so nothing is copied twice. */
#include "fermata/http/logformat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/http/headers.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/text.h"

struct value {
    const char *p; /* NULL: there is none */
    size_t n;
    char small[128]; /* where it has to be made */
};

static void set_text(struct value *v, const char *p, size_t n)
{
    v->p = p;
    v->n = n;
}

static void set_span(struct value *v, const struct fm_request *r, struct fm_span s)
{
    set_text(v, fm_request_text(r, s), s.len);
}

static void __attribute__((format(printf, 2, 3))) set_small(struct value *v, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(v->small, sizeof v->small, format, ap);
    va_end(ap);
    set_text(v, v->small, n < (int)sizeof v->small ? (size_t)n : sizeof v->small - 1);
}

static void set_field(struct value *v, const struct fm_request *r, unsigned id)
{
    const struct fm_field *f = r ? fm_request_find(r, id) : NULL;
    if (f)
        set_text(v, r->head + f->value_off, f->value_len);
}

/* The value of a base64 digit, or -1 (RFC 4648, 4). */
static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (fm_is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The user of Basic credentials (RFC 7617, 2), as far as it goes into `user`; its length, 0 if there is none. */
static size_t basic_user(const struct fm_request *r, char *user, size_t size)
{
    const struct fm_field *f = r ? fm_request_find(r, FM_H_AUTHORIZATION) : NULL;
    const char *p = f ? r->head + f->value_off : "", *end = p + (f ? f->value_len : 0);
    unsigned bits = 0, held = 0;
    size_t n = 0;
    if (end - p < 6 || !fm_ascii_ieq(p, 6, "Basic ", 6))
        return 0;
    for (p += 6; p < end && *p == ' '; p++)
        ;
    for (int d; p < end && (d = digit64(*p)) >= 0; p++) {
        held = held << 6 | (unsigned)d;
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        char c = (char)(held >> bits & 0xff);
        if (c == ':')
            return n;
        if (n == size)
            return n;
        user[n++] = c;
    }
    return 0; /* no colon: these are no Basic credentials */
}

/* ---- atoms ---- */

static void remote(struct value *v, const struct fm_access_entry *e)
{
    if (*e->remote)
        set_text(v, e->remote, strlen(e->remote));
}

static void none(struct value *v, const struct fm_access_entry *e) { (void)v, (void)e; }

static void user(struct value *v, const struct fm_access_entry *e)
{
    size_t n = basic_user(e->request, v->small, sizeof v->small);
    if (n > 0)
        set_text(v, v->small, n);
}

static void date(struct value *v, const struct fm_access_entry *e)
{
    (void)e;
    set_small(v, "[%s]", fm_clf_date());
}

/* As it came: method, target and version stand together. */
static void request_line(struct value *v, const struct fm_access_entry *e)
{
    const struct fm_request *r = e->request;
    if (r)
        set_text(v, fm_request_text(r, r->method),
                 r->target.off + r->target.len + sizeof " HTTP/1.1" - 1 - r->method.off);
    else if (e->line_len > 0)
        set_text(v, e->line, e->line_len);
}

static void method(struct value *v, const struct fm_access_entry *e)
{
    if (e->request)
        set_span(v, e->request, e->request->method);
}

static void path(struct value *v, const struct fm_access_entry *e)
{
    if (e->request)
        set_span(v, e->request, e->request->path);
}

static void query(struct value *v, const struct fm_access_entry *e)
{
    if (e->request)
        set_span(v, e->request, e->request->query);
}

static void protocol(struct value *v, const struct fm_access_entry *e)
{
    if (e->request)
        set_small(v, "HTTP/1.%d", e->request->minor);
}

static void status(struct value *v, const struct fm_access_entry *e) { set_small(v, "%u", e->status); }

static void bytes(struct value *v, const struct fm_access_entry *e)
{
    set_small(v, "%llu", (unsigned long long)e->bytes);
}

static void bytes_or_dash(struct value *v, const struct fm_access_entry *e)
{
    if (e->bytes > 0)
        bytes(v, e);
}

static void referer(struct value *v, const struct fm_access_entry *e) { set_field(v, e->request, FM_H_REFERER); }

static void agent(struct value *v, const struct fm_access_entry *e) { set_field(v, e->request, FM_H_USER_AGENT); }

static void seconds(struct value *v, const struct fm_access_entry *e)
{
    set_small(v, "%llu", (unsigned long long)(e->took / FM_SEC));
}

static void milliseconds(struct value *v, const struct fm_access_entry *e)
{
    set_small(v, "%llu", (unsigned long long)(e->took / FM_MS));
}

static void microseconds(struct value *v, const struct fm_access_entry *e)
{
    set_small(v, "%llu", (unsigned long long)(e->took / 1000));
}

static void decimal(struct value *v, const struct fm_access_entry *e)
{
    set_small(v, "%llu.%06llu", (unsigned long long)(e->took / FM_SEC), (unsigned long long)(e->took % FM_SEC / 1000));
}

static void pid(struct value *v, const struct fm_access_entry *e)
{
    (void)e;
    set_small(v, "<%ld>", (long)getpid());
}

static void request_id(struct value *v, const struct fm_access_entry *e)
{
    if (e->request && e->request->id_len > 0)
        set_text(v, fm_request_id(e->request), e->request->id_len);
}

static void trace_id(struct value *v, const struct fm_access_entry *e)
{
    const char *id = e->request ? fm_request_trace(e->request) : NULL;
    if (id)
        set_text(v, id, FM_TRACE_ID);
}

static void connection(struct value *v, const struct fm_access_entry *e) { set_small(v, "%c", e->end); }

typedef void atom_fn(struct value *v, const struct fm_access_entry *e);

static const struct atom {
    const char *name;
    atom_fn *get;
} atoms[] = {
    {"h", remote},
    {"l", none},
    {"u", user},
    {"t", date},
    {"r", request_line},
    {"m", method},
    {"U", path},
    {"q", query},
    {"H", protocol},
    {"s", status},
    {"B", bytes},
    {"b", bytes_or_dash},
    {"f", referer},
    {"a", agent},
    {"T", seconds},
    {"M", milliseconds},
    {"D", microseconds},
    {"L", decimal},
    {"p", pid},
    {"X", connection},
    {"request_id", request_id},
    {"trace_id", trace_id},
};

/* ---- a format ---- */

struct item {
    atom_fn *get; /* or NULL: a header field, or text */
    const char *text;
    size_t len;
    bool is_field;
};

struct fm_logformat {
    bool json;
    unsigned n;
    struct item items[];
};

static atom_fn *find_atom(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof atoms / sizeof *atoms; i++)
        if (strlen(atoms[i].name) == len && memcmp(atoms[i].name, name, len) == 0)
            return atoms[i].get;
    return NULL;
}

/* One of %(NAME)s and %({Field}i)s at the beginning of p; its length, or 0. */
static size_t read_atom(const char *p, struct item *item)
{
    const char *close = strchr(p, ')');
    if (p[1] != '(' || !close || close[1] != 's')
        return 0;
    const char *name = p + 2;
    size_t len = (size_t)(close - name);
    *item = (struct item){0};
    item->get = find_atom(name, len);
    if (!item->get && len > 3 && name[0] == '{' && name[len - 2] == '}' && name[len - 1] == 'i')
        *item = (struct item){.is_field = true, .text = name + 1, .len = len - 3};
    return item->get || (item->is_field && fm_is_token(item->text, item->len)) ? (size_t)(close + 2 - p) : 0;
}

struct fm_logformat *fm_logformat_new(const char *format, const char **why)
{
    /* At most one item for each character. */
    struct fm_logformat *f = fm_calloc(1, sizeof *f + (strlen(format) + 1) * sizeof *f->items);
    for (const char *p = format; *p;) {
        struct item *item = &f->items[f->n++];
        size_t len = strcspn(p, "%");
        if (len == 0 && p[1] == '%') {
            *item = (struct item){.text = p, .len = 1};
            len = 2;
        } else if (len == 0) {
            len = read_atom(p, item);
            if (len == 0) {
                *why = "takes text with %(NAME)s, where NAME is one of h l u t r m U q H s B b f a T M D L p X "
                       "request_id trace_id, or {Field}i for a field of the request; %% is a percent sign";
                free(f);
                return NULL;
            }
        } else {
            *item = (struct item){.text = p, .len = len};
        }
        p += len;
    }
    return f;
}

struct fm_logformat *fm_logformat_json(void)
{
    struct fm_logformat *f = fm_calloc(1, sizeof *f);
    f->json = true;
    return f;
}

void fm_logformat_free(struct fm_logformat *f) { free(f); }

/* ---- lines ---- */

#define CLIPPED 400 /* bytes of a text in a line that would be too long */

/* A line that is being made. */
struct line {
    struct fm_buf *b;
    size_t longest; /* bytes that a text may have */
};

/* Has the text that began at `from` all that it may have? */
static bool is_full(const struct line *l, size_t from)
{
    if (fm_buf_size(l->b) - from < l->longest)
        return false;
    fm_buf_puts(l->b, "...");
    return true;
}

/* Quotes, backslashes and everything unprintable escaped. */
static void put_escaped(const struct line *l, const char *p, size_t n)
{
    struct fm_buf *b = l->b;
    size_t from = fm_buf_size(b);
    for (size_t i = 0; i < n && !is_full(l, from); i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f) {
            char escaped[4];
            fm_escape_byte(c, escaped);
            fm_buf_append(b, escaped, sizeof escaped);
        } else {
            fm_buf_append(b, p + i, 1);
        }
    }
}

/* All fields of the name, as one list (RFC 9110, 5.3). */
static bool put_named_field(const struct line *l, const struct fm_request *r, const struct item *item)
{
    bool any = false;
    for (unsigned i = 0; r && i < r->nfields; i++) {
        const struct fm_field *f = &r->fields[i];
        if (!fm_ascii_ieq(r->head + f->name_off, f->name_len, item->text, item->len))
            continue;
        if (any)
            fm_buf_puts(l->b, ", ");
        put_escaped(l, r->head + f->value_off, f->value_len);
        any = true;
    }
    return any;
}

static void put_item(const struct line *l, const struct item *item, const struct fm_access_entry *e)
{
    struct value v = {.p = NULL};
    if (item->is_field) {
        if (!put_named_field(l, e->request, item))
            fm_buf_puts(l->b, "-");
    } else if (!item->get) {
        fm_buf_append(l->b, item->text, item->len);
    } else {
        item->get(&v, e);
        if (v.p && (v.n > 0 || item->get == query))
            put_escaped(l, v.p, v.n);
        else
            fm_buf_puts(l->b, "-");
    }
}

/* RFC 8259, 7.  A byte beyond ASCII is the character of latin-1, as in environ (PEP 3333, "Unicode Issues"). */
static void put_json_text(const struct line *l, const char *p, size_t n)
{
    struct fm_buf *b = l->b;
    fm_buf_puts(b, "\"");
    size_t from = fm_buf_size(b);
    for (size_t i = 0; i < n && !is_full(l, from); i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\')
            fm_buf_append(b, (char[]){'\\', (char)c}, 2);
        else if (c < 0x20 || c >= 0x7f)
            fm_buf_printf(b, "\\u%04x", c);
        else
            fm_buf_append(b, p + i, 1);
    }
    fm_buf_puts(b, "\"");
}

static const struct json_member {
    const char *name;
    atom_fn *get;
    bool is_number;
} members[] = {
    {"remote_addr", remote, false},
    {"user", user, false},
    {"request", request_line, false},
    {"method", method, false},
    {"path", path, false},
    {"query", query, false},
    {"protocol", protocol, false},
    {"status", status, true},
    {"bytes", bytes, true},
    {"duration", decimal, true},
    {"referer", referer, false},
    {"user_agent", agent, false},
    {"connection", connection, false},
    {"request_id", request_id, false},
    {"trace_id", trace_id, false},
};

static void put_json(const struct line *l, const struct fm_access_entry *e)
{
    struct fm_buf *b = l->b;
    fm_buf_printf(b, "{\"time\": \"%s\"", fm_iso_date());
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        struct value v = {.p = NULL};
        members[i].get(&v, e);
        fm_buf_printf(b, ", \"%s\": ", members[i].name);
        if (!v.p)
            fm_buf_puts(b, "null");
        else if (members[i].is_number)
            fm_buf_append(b, v.p, v.n);
        else
            put_json_text(l, v.p, v.n);
    }
    fm_buf_puts(b, "}");
}

static void put_line(const struct fm_logformat *f, const struct line *l, const struct fm_access_entry *e)
{
    if (f->json)
        put_json(l, e);
    for (unsigned i = 0; i < f->n; i++)
        put_item(l, &f->items[i], e);
    fm_buf_puts(l->b, "\n");
}

void fm_logformat_line(const struct fm_logformat *f, struct fm_buf *to, const struct fm_access_entry *e, size_t most)
{
    struct line l = {to, SIZE_MAX};
    size_t before = fm_buf_size(to);
    put_line(f, &l, e);
    if (fm_buf_size(to) - before <= most || to->failed)
        return;
    to->len = to->off + before;
    l.longest = CLIPPED;
    put_line(f, &l, e);
    if (fm_buf_size(to) - before > most && !to->failed) { /* a format of very many texts */
        to->len = to->off + before + most - 4;
        fm_buf_puts(to, "...\n");
    }
}
