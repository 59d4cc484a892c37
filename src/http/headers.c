/* Known header names by hash.
 *
 * The hash looks at the length and at both ends of the name, which nearly tells the known names apart; the table is
 * filled before main from FM_HEADERS, so a new name needs nothing but its line there; read-only from then on. */
#include "fermata/http/headers.h"

#include <stdint.h>
#include <string.h>

#include "chars.h"

#define NAME_SIZE 32
static struct {
    size_t len;
    char lower[NAME_SIZE]; /* the name in lower case */
    char fold[NAME_SIZE];  /* 0x20 where it has a letter: what makes that letter lower case, and only that */
} known[FM_H_OTHER] = {
#define X(id, name, key) {sizeof(name) - 1, name, ""},
    FM_HEADERS(X)
#undef X
};

#define SLOTS 256
static unsigned char slots[SLOTS]; /* id + 1, or 0; a collision goes to the next free slot */
_Static_assert(FM_H_OTHER < SLOTS / 2, "the table of known headers needs more room");

static inline unsigned hash(const char *name, size_t len)
{
    return (fm_char_lower[(unsigned char)name[0]] * 5u + fm_char_lower[(unsigned char)name[len - 1]] * 9u +
            (unsigned)len) %
           SLOTS;
}

__attribute__((constructor)) static void fill_slots(void)
{
    for (unsigned id = 0; id < FM_H_OTHER; id++) {
        for (size_t i = 0; i < known[id].len; i++) {
            unsigned char c = (unsigned char)known[id].lower[i];
            known[id].lower[i] = (char)fm_char_lower[c];
            known[id].fold[i] = fm_char_lower[c] != c || (c >= 'a' && c <= 'z') ? 0x20 : 0;
        }
        unsigned slot = hash(known[id].lower, known[id].len);
        while (slots[slot])
            slot = (slot + 1) % SLOTS;
        slots[slot] = (unsigned char)(id + 1);
    }
}

static inline bool same_eight(const char *name, const char *lower, const char *fold)
{
    uint64_t n, l, f;
    memcpy(&n, name, sizeof n);
    memcpy(&l, lower, sizeof l);
    memcpy(&f, fold, sizeof f);
    return (n | f) == l;
}

/* Is this the known name?  Both are len bytes long; the last eight may be looked at twice. */
static inline bool same_name(const char *name, unsigned id, size_t len)
{
    const char *lower = known[id].lower, *fold = known[id].fold;
    size_t i = 0;
    for (; i + 8 < len; i += 8)
        if (!same_eight(name + i, lower + i, fold + i))
            return false;
    if (len >= 8)
        return same_eight(name + len - 8, lower + len - 8, fold + len - 8);
    for (; i < len; i++)
        if ((name[i] | fold[i]) != lower[i])
            return false;
    return true;
}

unsigned fm_header_lookup(const char *name, size_t len)
{
    if (len == 0)
        return FM_H_OTHER;
    for (unsigned slot = hash(name, len); slots[slot]; slot = (slot + 1) % SLOTS) {
        unsigned id = slots[slot] - 1u;
        if (known[id].len == len && same_name(name, id, len))
            return id;
    }
    return FM_H_OTHER;
}

bool fm_is_token(const char *p, size_t len) { return len > 0 && fm_token_run(p, len) == len; }

bool fm_is_field_value(const char *p, size_t len) { return fm_text_end(p, p + len) == p + len; }

bool fm_ascii_ieq(const char *a, size_t alen, const char *b, size_t blen)
{
    if (alen != blen)
        return false;
    for (size_t i = 0; i < alen; i++)
        if (fm_char_lower[(unsigned char)a[i]] != fm_char_lower[(unsigned char)b[i]])
            return false;
    return true;
}
