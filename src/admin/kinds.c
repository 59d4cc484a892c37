/* What requests wait for, as Python has told it; see admin/status.h. */
#include <stdlib.h>
#include <string.h>

#include "fermata/admin/status.h"
#include "fermata/util/clock.h"
#include "fermata/util/inquiry.h"

#define SILENT (200 * FM_MS) /* so long an answer may take */

static unsigned count_lines(const char *text)
{
    unsigned n = 0;
    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

/* "PLACE\tN\tTEXT\n", which is cut into its parts; the end of the line, or NULL if it is none. */
static char *read_line(char *line, struct fm_status_kind *kind)
{
    char *end = strchr(line, '\n'), *at;
    if (!end)
        return NULL;
    *end = '\0';
    unsigned long place = strtoul(line, &at, 10);
    if (*at != '\t' || place >= FM_PLACES)
        return NULL;
    kind->place = (uint16_t)place;
    kind->n = (unsigned)strtoul(at + 1, &at, 10);
    if (*at != '\t')
        return NULL;
    kind->text = at + 1;
    return end + 1;
}

static void take_text(struct fm_status_python *p, struct fm_buf *text)
{
    fm_buf_append(text, "", 1);
    if (text->failed)
        return;
    p->text = fm_buf_head(text);
    *text = (struct fm_buf)FM_BUF_INIT;
    p->kinds = calloc(count_lines(p->text) + 1, sizeof *p->kinds);
    for (char *line = p->text; p->kinds && line && *line;) {
        line = read_line(line, &p->kinds[p->nkinds]);
        p->nkinds += line != NULL;
    }
}

void fm_status_take_kinds(struct fm_status *s, struct fm_inquiry *futures, uint64_t now)
{
    struct fm_status_python *p = &s->python;
    struct fm_inquiry_seen seen;
    struct fm_buf text = FM_BUF_INIT;
    fm_inquiry_read(futures, &seen, &text);
    p->asked = true;
    p->answered = seen.how == FM_ANSWER_TEXT;
    p->age = now > seen.at ? now - seen.at : 0;
    p->silent = seen.under_way && now > seen.asked + SILENT ? now - seen.asked : 0;
    if (p->answered)
        take_text(p, &text);
    fm_buf_fini(&text);
}

void fm_status_free_kinds(struct fm_status *s)
{
    free(s->python.kinds);
    free(s->python.text);
}

const struct fm_status_kind *fm_status_kinds_at(const struct fm_status *s, uint16_t place, unsigned *n,
                                                unsigned *looked_at)
{
    const struct fm_status_python *p = &s->python;
    const struct fm_status_kind *first = NULL;
    *n = *looked_at = 0;
    for (unsigned i = 0; i < p->nkinds; i++) {
        if (p->kinds[i].place != place)
            continue;
        first = first ? first : &p->kinds[i];
        ++*n;
        *looked_at += p->kinds[i].n;
    }
    return first;
}
