/* The table of refusals. */
#include "fermata/http/refusal.h"

#include <stddef.h>

static const struct fm_http_error errors[FM_REFUSALS_END] = {
#define X(id, status, slug, reason) [FM_REFUSE_##id] = {FM_REFUSE_##id, status, reason, slug},
    FM_REFUSALS(X)
#undef X
};

const struct fm_http_error *fm_refusal_error(enum fm_refusal id)
{
    return id > FM_REFUSE_NOTHING && id < FM_REFUSALS_END ? &errors[id] : NULL;
}
