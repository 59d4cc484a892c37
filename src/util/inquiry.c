/* Asking, and the last answer; see util/inquiry.h. */
#include "fermata/util/inquiry.h"

void fm_inquiry_listen(struct fm_inquiry *q, void (*tell)(void *ctx), void *ctx)
{
    fm_mutex_lock(&q->lock);
    q->tell = tell;
    q->ctx = ctx;
    fm_mutex_unlock(&q->lock);
}

int fm_inquiry_ask(struct fm_inquiry *q, uint64_t now)
{
    fm_mutex_lock(&q->lock);
    bool begin = !q->under_way;
    if (begin) {
        q->under_way = true;
        q->asked = now;
    }
    fm_mutex_unlock(&q->lock);
    int err = begin ? q->start(q) : 0;
    if (err != 0) {
        fm_mutex_lock(&q->lock);
        q->under_way = false;
        fm_mutex_unlock(&q->lock);
    }
    return err;
}

void fm_inquiry_answer(struct fm_inquiry *q, enum fm_answered how, struct fm_buf *text)
{
    struct fm_buf before;
    fm_mutex_lock(&q->lock);
    before = q->text;
    q->text = *text;
    q->how = how;
    q->at = q->asked;
    q->under_way = false;
    if (q->tell)
        q->tell(q->ctx);
    fm_mutex_unlock(&q->lock);
    *text = before;
    fm_buf_fini(text);
}

void fm_inquiry_read(struct fm_inquiry *q, struct fm_inquiry_seen *seen, struct fm_buf *to)
{
    fm_mutex_lock(&q->lock);
    *seen = (struct fm_inquiry_seen){q->how, q->at, q->under_way, q->asked};
    if (to && q->how == FM_ANSWER_TEXT)
        fm_buf_append(to, fm_buf_head(&q->text), fm_buf_size(&q->text));
    fm_mutex_unlock(&q->lock);
}
