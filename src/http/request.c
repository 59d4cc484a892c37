/* A request's end, and looking into its fields.  It is built by parser.c. */
#include "fermata/http/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/http/quota.h"

#define SPARE_MAX 1024 /* bytes of a block that an idle connection may keep */

static void drop(struct fm_request *r)
{
    fm_quota_move(FM_QUOTA_HEADS, r->block, 0);
    free(r);
}

struct fm_request *fm_request_new(struct fm_request *spare, const char *head, uint32_t len,
                                  const struct fm_field *fields, uint16_t nfields)
{
    size_t table = nfields * sizeof *fields;
    uint32_t block = (uint32_t)(sizeof *spare + table + len);
    struct fm_request *r = spare;
    if (r && r->block >= block) {
        block = r->block;
    } else {
        free(r);
        r = fm_quota_move(FM_QUOTA_HEADS, 0, block) ? malloc(block) : NULL;
        if (!r)
            return NULL;
    }
    *r = (struct fm_request){.fields = (struct fm_field *)(r + 1),
                             .block = block,
                             .nfields = nfields,
                             .head_len = len,
                             .content_length = -1};
    r->head = (char *)r->fields + table;
    if (nfields > 0)
        memcpy(r->fields, fields, table);
    memcpy(r->head, head, len);
    fm_body_init(&r->body);
    return r;
}

struct fm_request *fm_request_spare(struct fm_request *r)
{
    fm_body_fini(&r->body);
    if (r->block <= SPARE_MAX)
        return r;
    drop(r);
    return NULL;
}

void fm_request_free(struct fm_request *r)
{
    if (!r)
        return;
    fm_body_fini(&r->body);
    drop(r);
}

const struct fm_field *fm_request_find(const struct fm_request *r, unsigned id)
{
    for (unsigned i = 0; i < r->nfields; i++)
        if (r->fields[i].id == id)
            return &r->fields[i];
    return NULL;
}

void fm_request_describe(const struct fm_request *r, char *text, size_t size)
{
    int n =
        snprintf(text, size, "%.*s %.*s", (int)(r->method.len < 32 ? r->method.len : 32), fm_request_text(r, r->method),
                 (int)(r->path.len < 400 ? r->path.len : 400), fm_request_text(r, r->path));
    if (r->id_len > 0 && n > 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, " (id %.*s)", (int)r->id_len, fm_request_id(r));
}
