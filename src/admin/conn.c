/* A connection of the admin port: what is sent on it, and its end; see admin/internal.h. */
#include <errno.h>
#include <stdlib.h>

#include "fermata/http/h1/parser.h"
#include "fermata/http/response.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "internal.h"

/* ---- the end ---- */

void fm_admin_conn_free(struct fm_event *gone)
{
    struct admin_conn *c = FM_LIST_ENTRY(gone, struct admin_conn, gone);
    fm_assert_on_loop();
    fm_stream_fini(&c->stream);
    fm_parser_free(c->parser);
    fm_buf_fini(&c->ahead);
    free(c);
}

/* It waits for nothing any more. */
static void leave(struct admin_conn *c) FM_ON_LOOP
{
    struct fm_admin *a = c->admin;
    fm_timer_stop(&c->late);
    if (a->waiting.next == &c->wait) { /* the walk was for this one */
        fm_status_free(a->status);
        a->status = NULL;
        if (a->walked) /* else it is posted */
            fm_loop_post(c->stream.loop, &a->survey, 0, NULL);
        a->walked = false;
    }
    fm_list_remove(&c->wait);
}

void fm_admin_close(struct admin_conn *c)
{
    struct fm_admin *a = c->admin;
    if (c->state == CLOSED)
        return;
    c->state = CLOSED;
    fm_timer_stop(&c->idle);
    fm_list_remove(&c->node);
    leave(c);
    fm_loop_cancel(c->stream.loop, &c->more);
    fm_stream_close(&c->stream);
    fm_loop_defer(c->stream.loop, &c->gone);
    a->nconns--;
    fm_listener_refill(&a->listener);
}

/* ---- answers ---- */

int fm_admin_send(struct admin_conn *c, struct fm_admin_answer *answer)
{
    struct fm_buf head = FM_BUF_INIT;
    bool keep = c->keep && !c->admin->paused;
    fm_buf_printf(&head,
                  "HTTP/1.1 %d %s\r\nServer: fermata\r\nDate: %s\r\nContent-Type: %s\r\n%s%sContent-Length: "
                  "%zu\r\nConnection: %s\r\n\r\n",
                  answer->status, fm_status_reason(answer->status), fm_http_date(), answer->type, answer->fields,
                  answer->age, fm_buf_size(&answer->body), keep ? "keep-alive" : "close");
    struct iovec pieces[2] = {
        {fm_buf_head(&head), fm_buf_size(&head)},
        {fm_buf_head(&answer->body), c->is_head ? 0 : fm_buf_size(&answer->body)},
    };
    bool complete = !head.failed && !answer->body.failed;
    enum fm_sent sent = complete ? fm_stream_send(&c->stream, pieces, 2, 0) : FM_SENT_GONE;
    if (!complete)
        fm_error_ratelimited("admin: %s; the connection is closed", fm_strerror(-ENOMEM));
    fm_buf_fini(&head);
    fm_buf_fini(&answer->body);
    c->state = keep ? OPEN : ENDING;
    c->answered = true;
    return sent == FM_SENT_GONE ? FM_ECLOSED : 0;
}

void fm_admin_answer_more(struct admin_conn *c)
{
    if (fm_stream_pending(&c->stream) > 0)
        return;
    fm_loop_cancel(c->stream.loop, &c->more); /* it is not posted twice */
    fm_loop_post(c->stream.loop, &c->more, 0, NULL);
}

void fm_admin_go_on(struct admin_conn *c)
{
    fm_timer_start(&c->stream.loop->timers, &c->idle, c->admin->idle_kind, fm_now());
    if (c->state == OPEN && fm_buf_size(&c->ahead) > 0) {
        c->answered = false;
        fm_admin_answer_more(c);
        return;
    }
    fm_buf_fini(&c->ahead);
    fm_stream_set_reading(&c->stream, FM_READ_ON);
    if (c->state == ENDING && fm_stream_pending(&c->stream) == 0)
        fm_stream_shutdown(&c->stream);
}
