/* Text that came from elsewhere; see admin/render.h. */
#include <stdint.h>
#include <string.h>

#include "fermata/admin/render.h"

/* How many bytes the character at p has, which ends at a NUL; 0: it is no UTF-8 (RFC 3629).  *code: what it is. */
static unsigned character(const unsigned char *p, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned n = *p < 0x80                 ? 1
                 : *p >= 0xc2 && *p < 0xe0 ? 2
                 : *p >= 0xe0 && *p < 0xf0 ? 3
                 : *p >= 0xf0 && *p < 0xf5 ? 4
                                           : 0;
    if (n < 2) {
        *code = *p;
        return n;
    }
    *code = *p & (0x7fu >> n);
    for (unsigned i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3fu);
    }
    return *code >= least[n] && *code < 0x110000 && (*code < 0xd800 || *code > 0xdfff) ? n : 0;
}

/* Control characters, also those of C1, and what turns the direction of text around or has no width. */
static bool is_odd(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff || code == 0xad ||
           code == 0x34f || code == 0x61c || code == 0x180e || (code >= 0xfff9 && code <= 0xfffb) ||
           (code >= 0xe0000 && code <= 0xe007f);
}

static void put_bytes(struct fm_buf *to, const unsigned char *p, unsigned n, const char *backslash)
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < n; i++) {
        char hex[3] = {'x', digits[p[i] >> 4], digits[p[i] & 15]};
        fm_buf_puts(to, backslash);
        fm_buf_append(to, hex, sizeof hex);
    }
}

/* How many characters from p on are the same in all of them. */
static size_t plain(const unsigned char *p)
{
    size_t n = 0;
    while (p[n] >= 0x20 && p[n] < 0x7f && !strchr("<>&'\"\\", p[n]))
        n++;
    return n;
}

/* Puts a character that is not plain: n bytes at p, or 0 where one byte is no UTF-8. */
typedef void put_fn(struct fm_buf *to, const unsigned char *p, unsigned n, uint32_t code);

static void escape(struct fm_buf *to, const char *text, put_fn *put)
{
    uint32_t code;
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t same = plain(p);
        fm_buf_append(to, p, same);
        p += same;
        if (!*p)
            break;
        unsigned n = character(p, &code);
        put(to, p, n, code);
        p += n ? n : 1;
    }
}

static void put_json(struct fm_buf *to, const unsigned char *p, unsigned n, uint32_t code)
{
    if (n == 0 || (code >= 0x10000 && is_odd(code)))
        put_bytes(to, p, n ? n : 1, "\\\\");
    else if (code == '"' || code == '\\')
        fm_buf_printf(to, "\\%c", (char)code);
    else if ((code < 0x80 && strchr("<>&'", (int)code)) || is_odd(code)) /* also where it is put into a page */
        fm_buf_printf(to, "\\u%04x", (unsigned)code);
    else
        fm_buf_append(to, p, n);
}

static void put_text(struct fm_buf *to, const unsigned char *p, unsigned n, uint32_t code)
{
    if (n == 0 || is_odd(code))
        put_bytes(to, p, n ? n : 1, "\\");
    else
        fm_buf_append(to, p, n);
}

static void put_html(struct fm_buf *to, const unsigned char *p, unsigned n, uint32_t code)
{
    if (n == 1 && strchr("<>&'\"", (int)code))
        fm_buf_printf(to, "&#%u;", (unsigned)code);
    else
        put_text(to, p, n, code);
}

void fm_escape_json(struct fm_buf *to, const char *text) { escape(to, text, put_json); }

void fm_escape_html(struct fm_buf *to, const char *text) { escape(to, text, put_html); }

void fm_escape_text(struct fm_buf *to, const char *text) { escape(to, text, put_text); }
