/* A request's end, and looking into its fields.  It is built by parser.c. */
#include "fermata/http/request.h"

#include <stdio.h>
#include <stdlib.h>

void fm_request_free(struct fm_request *r)
{
    if (!r)
        return;
    fm_body_fini(&r->body);
    free(r->fields);
    free(r->head);
    free(r);
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
    snprintf(text, size, "%.*s %.*s", (int)(r->method.len < 32 ? r->method.len : 32), fm_request_text(r, r->method),
             (int)(r->path.len < 400 ? r->path.len : 400), fm_request_text(r, r->path));
}
