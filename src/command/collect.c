/* One question, or one for each worker; see command/collect.h. */
#include "fermata/command/collect.h"

#include <stdio.h>
#include <string.h>

#include "fermata/command/slots.h"

#define PATH 64

/* Appends the answer to one question, if it is a good one. */
static bool ask(const struct fm_target *t, const struct fm_wanted *wanted, int worker, struct fm_buf *to, char *why)
{
    char path[PATH];
    struct fm_told told;
    if (worker >= 0)
        snprintf(path, sizeof path, "%s?worker=%d", wanted->path, worker);
    else
        snprintf(path, sizeof path, "%s", wanted->path);
    bool good = fm_ask(t, wanted->method, path, wanted->ends, &told, why);
    const char *body = fm_buf_size(&told.body) ? fm_buf_head(&told.body) : "";
    if (good && told.status != 200) {
        snprintf(why, FM_SENTENCE, "%.500s: %d: %.*s", t->text, told.status,
                 (int)(fm_buf_size(&told.body) < 400 ? fm_buf_size(&told.body) : 400), body);
        why[strcspn(why, "\r\n")] = '\0';
        good = false;
    }
    if (good)
        fm_buf_append(to, body, fm_buf_size(&told.body));
    fm_buf_fini(&told.body);
    return good;
}

/* ---- several ---- */

/* "0": {...}, or null. */
static bool put_json(const struct fm_target *t, const struct fm_wanted *wanted, const struct fm_slot *one, bool first,
                     struct fm_buf *to, char *why)
{
    fm_buf_printf(to, "%s\"%u\": ", first ? "{" : ",\n", one->slot);
    bool good = ask(t, wanted, (int)one->slot, to, why);
    if (good && !to->failed && fm_buf_head(to)[fm_buf_size(to) - 1] == '\n')
        to->len--;
    else if (!good)
        fm_buf_puts(to, "null");
    return good;
}

static bool put_text(const struct fm_target *t, const struct fm_wanted *wanted, const struct fm_slot *one, bool first,
                     struct fm_buf *to, char *why)
{
    fm_buf_printf(to, "%s==== worker %u, %s ====\n\n", first ? "" : "\n", one->slot, one->state);
    bool good = ask(t, wanted, (int)one->slot, to, why);
    if (!good)
        fm_buf_printf(to, "%s\n", why);
    return good;
}

/* Each of them.  why is that of the first who does not answer. */
static bool collect_all(const struct fm_target *t, const struct fm_wanted *wanted, const struct fm_slots *slots,
                        struct fm_buf *to, char *why)
{
    char one[FM_SENTENCE];
    bool good = true, sums = wanted->sums && !wanted->json;
    if (sums && !ask(t, wanted, -1, to, why))
        return false;
    for (unsigned i = 0; i < slots->n; i++) {
        const struct fm_slot *slot = &slots->all[i];
        bool answered = wanted->json ? put_json(t, wanted, slot, i == 0, to, one)
                                     : put_text(t, wanted, slot, i == 0 && !sums, to, one);
        bool ended = !answered && !*one;
        if (ended || (good && !answered))
            memcpy(why, one, sizeof one);
        if (ended)
            return false;
        good = good && answered;
    }
    fm_buf_puts(to, !wanted->json ? "" : slots->n > 0 ? "}\n" : "{}\n");
    return good;
}

/* ---- which ---- */

bool fm_collect(const struct fm_target *t, const struct fm_wanted *wanted, struct fm_buf *to, char *why)
{
    struct fm_slots slots = {0};
    struct fm_told told;
    bool answered = fm_ask(t, "GET", "/workers", wanted->ends, &told, why);
    bool several = answered && told.status == 200 && fm_slots_read(&slots, &told.body) && wanted->worker < 0;
    fm_buf_fini(&told.body);
    if (!answered)
        return false;
    if (told.status == 404 && wanted->worker >= 0) {
        snprintf(why, FM_SENTENCE, "%.500s: it is a server by itself, without workers", t->text);
        return false;
    }
    return several ? collect_all(t, wanted, &slots, to, why) : ask(t, wanted, wanted->worker, to, why);
}
