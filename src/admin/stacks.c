/* Where the threads are that run the application, as text; see admin/render.h. */
#include <string.h>

#include "fermata/admin/render.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"

/* The request whose step that was, if the thread is in the same one still. */
static const struct fm_status_request *request_of(const struct fm_status *s, const struct fm_stack *stack, uint64_t at,
                                                  uint64_t now)
{
    for (unsigned i = 0; i < s->nrunning; i++)
        if (s->running[i].thread == stack->thread)
            return s->running[i].in_state <= now && now - s->running[i].in_state <= at ? &s->running[i] : NULL;
    return NULL;
}

static void put_lines(struct fm_buf *to, const struct fm_buf *text)
{
    if (fm_buf_size(text) == 0)
        return;
    const char *line = fm_buf_head(text), *end = line + fm_buf_size(text);
    while (line < end) {
        const char *feed = memchr(line, '\n', (size_t)(end - line));
        char *copy = fm_strndup(line, (size_t)((feed ? feed : end) - line));
        fm_escape_text(to, copy);
        fm_buf_puts(to, "\n");
        free(copy);
        line = feed ? feed + 1 : end;
    }
}

static void put_stack(struct fm_buf *to, const struct fm_status *s, const struct fm_stack *stack, uint64_t at,
                      uint64_t now)
{
    const struct fm_status_request *r = request_of(s, stack, at, now);
    uint64_t age = at > stack->since ? at - stack->since : 0;
    fm_buf_printf(to, "\nfermata-%-4u %6llu.%03llu s  ", stack->thread, (unsigned long long)(age / FM_SEC),
                  (unsigned long long)(age / FM_MS % 1000));
    if (r) {
        fm_escape_text(to, r->method);
        fm_buf_puts(to, " ");
        fm_escape_text(to, r->path);
        fm_buf_printf(to, "  (id %llu)\n", (unsigned long long)r->number);
    } else {
        fm_buf_puts(to, "(its step is over by now)\n");
    }
    if (stack->why)
        fm_buf_printf(to, "  %s\n", stack->why);
    else
        put_lines(to, &stack->text);
}

void fm_render_stacks(struct fm_buf *to, const struct fm_status *s, const struct fm_stacks *stacks)
{
    uint64_t now = fm_now();
    if (stacks->n == 0)
        fm_buf_puts(to, "no thread runs the application\n");
    else
        fm_buf_printf(to, "%u thread%s the application%s\n", stacks->n, stacks->n == 1 ? " runs" : "s run",
                      stacks->alone ? "; each has said by itself where it is, without Python" : "");
    for (unsigned i = 0; i < stacks->n; i++)
        put_stack(to, s, &stacks->all[i], stacks->at, now);
}
