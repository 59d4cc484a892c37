/* Ids of requests: taken or made; see http/request_id.h. */
#include "fermata/http/request_id.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "fermata/http/headers.h"
#include "fermata/util/clock.h"
#include "fermata/util/text.h"

#define BATCH 64 /* ids made at a time */

/* The loop's. */
static struct {
    unsigned left;
    uint64_t state; /* where the kernel has no random numbers yet */
    char text[BATCH][FM_ID_MADE];
} batch;

const char *fm_id_rule_parse(struct fm_id_rule *rule, const char *text)
{
    if (!fm_is_token(text, strlen(text)))
        return "takes the name of a header field, or off";
    *rule = (struct fm_id_rule){.name = text, .off = strcmp(text, "off") == 0};
    rule->usual = fm_ascii_ieq(text, strlen(text), "X-Request-ID", 12);
    return NULL;
}

/* ---- taken ---- */

/* What UUIDs, base64, AWS's trace ids and the like are made of, and nothing that ends a field of a log, or means
 * something to a shell or a query: letters, digits and these. */
static bool is_sane(const char *p, size_t n)
{
    if (n == 0 || n > FM_ID_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        char lower = (char)(p[i] | 0x20);
        if (!(lower >= 'a' && lower <= 'z') && !fm_is_digit(p[i]) && !(p[i] && strchr("-_.~+/=:;@", p[i])))
            return false;
    }
    return true;
}

static bool is_named(const struct fm_id_rule *rule, const struct fm_request *r, const struct fm_field *f)
{
    return fm_ascii_ieq(r->head + f->name_off, f->name_len, rule->name, strlen(rule->name));
}

/* Several fields of the name are no id. */
static bool FM_COLD take(const struct fm_id_rule *rule, struct fm_request *r)
{
    const struct fm_field *found = NULL;
    for (unsigned i = 0; i < r->nfields; i++) {
        if (!is_named(rule, r, &r->fields[i]))
            continue;
        if (found)
            return false;
        found = &r->fields[i];
    }
    if (!found || !is_sane(r->head + found->value_off, found->value_len))
        return false;
    r->id_off = found->value_off;
    r->id_len = (uint8_t)found->value_len;
    return true;
}

/* ---- made ---- */

/* splitmix64: ids need to be different, not secret. */
static uint64_t next_number(void)
{
    uint64_t z = batch.state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static void __attribute__((noinline)) refill(void)
{
    unsigned char bytes[BATCH * FM_ID_MADE / 2], *text = (unsigned char *)batch.text;
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes) { /* the machine has just started */
        batch.state ^= fm_now() ^ (uint64_t)getpid() << 32;
        for (size_t i = 0; i < sizeof bytes; i += sizeof batch.state) {
            uint64_t n = next_number();
            memcpy(bytes + i, &n, sizeof n);
        }
    }
    for (size_t i = 0; i < sizeof bytes; i++) { /* without a table, so that the compiler takes sixteen at a time */
        unsigned char high = bytes[i] >> 4, low = bytes[i] & 15;
        text[2 * i] = (unsigned char)(high + '0' + (high > 9 ? 'a' - '0' - 10 : 0));
        text[2 * i + 1] = (unsigned char)(low + '0' + (low > 9 ? 'a' - '0' - 10 : 0));
    }
    batch.left = BATCH;
}

void fm_request_id_give(const struct fm_id_rule *rule, struct fm_request *r)
{
    if (rule->off || r->id_len > 0)
        return;
    if ((r->sends_id || !rule->usual) && take(rule, r)) /* the parser tells of the usual name */
        return;
    if (batch.left == 0)
        refill();
    memcpy(r->made_id, batch.text[--batch.left], FM_ID_MADE);
    r->id_len = FM_ID_MADE;
}
