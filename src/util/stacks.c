/* Stacks as text; see util/stacks.h. */
#include "fermata/util/stacks.h"

#include <stdlib.h>
#include <string.h>

struct fm_stacks *fm_stacks_new(void) { return calloc(1, sizeof(struct fm_stacks)); }

void fm_stacks_free(struct fm_stacks *s)
{
    for (unsigned i = 0; s && i < s->n; i++)
        fm_buf_fini(&s->all[i].text);
    free(s);
}

static bool begins(const char *line, size_t len, const char *with)
{
    return len >= strlen(with) && memcmp(line, with, strlen(with)) == 0;
}

static bool ends(const char *line, size_t len, const char *with)
{
    return len >= strlen(with) && memcmp(line + len - strlen(with), with, strlen(with)) == 0;
}

/* Of the threading module, below what the thread does: nothing of it is the application's. */
static bool is_of_threading(const char *line, size_t len)
{
    return memmem(line, len, "threading.py\", line ", 20) != NULL &&
           (ends(line, len, " in run") || ends(line, len, " in _bootstrap_inner") || ends(line, len, " in _bootstrap"));
}

void fm_stack_take(struct fm_stack *to, const char *text, size_t len)
{
    const char *line = text, *end = text + len;
    size_t shown = fm_buf_size(&to->text); /* up to the last frame that is not of threading */
    while (line < end) {
        const char *feed = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((feed ? feed : end) - line);
        if (begins(line, n, "  File ") || begins(line, n, "  ...")) {
            fm_buf_append(&to->text, line, n);
            fm_buf_puts(&to->text, "\n");
            if (!is_of_threading(line, n))
                shown = fm_buf_size(&to->text);
        }
        line = feed ? feed + 1 : end;
    }
    if (!to->text.failed && fm_buf_size(&to->text) > shown)
        to->text.len = to->text.off + shown;
}
