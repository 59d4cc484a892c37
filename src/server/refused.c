/* The log of refused requests; see server/refused.h. */
#include "fermata/server/refused.h"

#include <stdio.h>

#include "fermata/http/refusal.h"
#include "fermata/http/request_id.h"
#include "fermata/util/log.h"

void fm_refused_log(const struct fm_http_error *error, const struct fm_parser *parser, const char *remote)
{
    static struct fm_ratelimit places[FM_REFUSALS_END]; /* one for each reason */
    char what[256], id[FM_ID_MAX + 8] = "";
    const struct fm_request *r = fm_parser_request(parser);
    if (!*remote)
        remote = "unix";
    fm_parser_describe(parser, what, sizeof what);
    if (r && r->id_len > 0)
        snprintf(id, sizeof id, " (id %.*s)", (int)r->id_len, fm_request_id(r));
    if (fm_log_on(FM_LOG_DEBUG))
        fm_debug("refused with %d (%s): %s; from %s: \"%s\"%s", error->status, error->slug, error->reason, remote, what,
                 id);
    else
        fm_log_ratelimited(&places[error->id], FM_LOG_WARNING, "refused with %d (%s): %s; from %s: \"%s\"%s",
                           error->status, error->slug, error->reason, remote, what, id);
}
