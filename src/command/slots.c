/* The workers in the answer of /workers, whose objects have nothing in them but numbers and words; see
 * command/slots.h. */
#include "fermata/command/slots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/util/err.h"

/* What the server shows rather: the greater. */
static int rank(const char *state)
{
    static const char *const states[] = {"killed", "loading", "draining", "ready"};
    int i = sizeof states / sizeof *states;
    while (i > 0 && strcmp(states[i - 1], state) != 0)
        i--;
    return i;
}

static bool read_one(struct fm_slot *to, const char *object)
{
    const char *slot = strstr(object, "\"slot\": "), *state = strstr(object, "\"state\": ");
    return slot && state && sscanf(slot, "\"slot\": %5u", &to->slot) == 1 &&
           sscanf(state, "\"state\": \"%15[a-z]", to->state) == 1;
}

static void add(struct fm_slots *s, const struct fm_slot *one)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->all[i].slot == one->slot) {
            if (rank(one->state) > rank(s->all[i].state))
                s->all[i] = *one;
            return;
        }
    if (s->n < FM_SLOTS_MOST)
        s->all[s->n++] = *one;
}

static int by_slot(const void *a, const void *b)
{
    const struct fm_slot *x = a, *y = b;
    return (x->slot > y->slot) - (x->slot < y->slot);
}

/* The objects up to the bracket; the text is cut at the end of each. */
static bool read_objects(struct fm_slots *s, char *at)
{
    struct fm_slot one;
    for (;;) {
        at += strcspn(at, "{]");
        if (*at != '{')
            return *at == ']';
        char *end = strchr(at, '}');
        if (!end)
            return false;
        *end = '\0';
        if (!read_one(&one, at))
            return false;
        add(s, &one);
        at = end + 1;
    }
}

bool fm_slots_read(struct fm_slots *s, const struct fm_buf *json)
{
    static const char key[] = "\"workers\": [";
    char *text = fm_strndup(fm_buf_size(json) ? fm_buf_head(json) : "", fm_buf_size(json));
    char *list = strstr(text, key);
    s->n = 0;
    bool good = list && read_objects(s, list + sizeof key - 1);
    qsort(s->all, s->n, sizeof *s->all, by_slot);
    free(text);
    return good;
}
