/* The status as JSON, as text, and as a page.  Appended to a buffer; on the loop. */
#ifndef FERMATA_ADMIN_RENDER_H
#define FERMATA_ADMIN_RENDER_H

#include "fermata/admin/status.h"
#include "fermata/util/buf.h"
#include "fermata/util/stacks.h"

/* spec/status.schema.json */
void fm_render_json(struct fm_buf *to, const struct fm_status *s);

/* Only the requests, and from which number on there are more. */
void fm_render_requests(struct fm_buf *to, const struct fm_status *s);

void fm_render_text(struct fm_buf *to, const struct fm_status *s);
/* Of what runs, with the request of each as far as it still runs. */
void fm_render_stacks(struct fm_buf *to, const struct fm_status *s, const struct fm_stacks *stacks);

void fm_render_html(struct fm_buf *to, const struct fm_status *s);

/* Fields of the response that the page is to be sent with: what it may do. */
const char *fm_render_policy(void);

/* Text that came from elsewhere, so that it means itself: within quotes of JSON; in HTML; on a terminal.  Bytes that
 * are no UTF-8 are shown as \xNN, and so are control characters on a terminal and in HTML. */
void fm_escape_json(struct fm_buf *to, const char *text);
void fm_escape_html(struct fm_buf *to, const char *text);
void fm_escape_text(struct fm_buf *to, const char *text);

#endif
