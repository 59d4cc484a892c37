/* Text of others on a terminal; see command/show.h. */
#include "fermata/command/show.h"

#include <string.h>

#include "fermata/admin/render.h"
#include "fermata/util/err.h"

/* One line, without its end. */
static void put_line(struct fm_buf *to, const char *line, size_t len)
{
    char *copy = fm_strndup(line, len); /* ends at a NUL */
    fm_escape_text(to, copy);
    if (strlen(copy) < len)
        fm_buf_puts(to, "\\x00...");
    free(copy);
}

struct fm_buf fm_show_safe(const struct fm_buf *text)
{
    struct fm_buf to = FM_BUF_INIT;
    if (fm_buf_size(text) == 0)
        return to;
    const char *line = fm_buf_head(text), *end = line + fm_buf_size(text);
    while (line < end) {
        const char *feed = memchr(line, '\n', (size_t)(end - line));
        put_line(&to, line, (size_t)((feed ? feed : end) - line));
        if (feed)
            fm_buf_puts(&to, "\n");
        line = feed ? feed + 1 : end;
    }
    return to;
}

void fm_show_complaint(const char *text)
{
    struct fm_buf to = FM_BUF_INIT;
    put_line(&to, text, strcspn(text, "\r\n"));
    fm_buf_puts(&to, "\n");
    fprintf(stderr, "fermata: %.*s", (int)fm_buf_size(&to), to.failed ? "" : fm_buf_head(&to));
    fm_buf_fini(&to);
}
