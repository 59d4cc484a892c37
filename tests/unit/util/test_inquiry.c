/* Asking, one thread at a time, and going by the last answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "fermata/util/inquiry.h"
#include "threads.h"

static unsigned started, told;
static int refusal;

static int start(struct fm_inquiry *q)
{
    (void)q;
    started += refusal == 0;
    return refusal;
}

static void tell(void *ctx)
{
    assert_ptr_equal(ctx, &told);
    told++;
}

static struct fm_buf text_of(const char *text)
{
    struct fm_buf b = FM_BUF_INIT;
    fm_buf_puts(&b, text);
    return b;
}

static void expect(struct fm_inquiry *q, enum fm_answered how, uint64_t at, const char *text)
{
    struct fm_inquiry_seen seen;
    struct fm_buf got = FM_BUF_INIT;
    fm_inquiry_read(q, &seen, &got);
    assert_int_equal(seen.how, how);
    assert_int_equal(seen.at, at);
    assert_int_equal(fm_buf_size(&got), strlen(text));
    if (*text)
        assert_memory_equal(fm_buf_head(&got), text, strlen(text));
    fm_buf_fini(&got);
}

static void test_one_at_a_time(void **state)
{
    struct fm_inquiry q = FM_INQUIRY_INIT(start);
    struct fm_inquiry_seen seen;
    (void)state;
    started = told = 0;
    fm_inquiry_listen(&q, tell, &told);
    expect(&q, FM_ANSWER_NONE, 0, "");
    assert_int_equal(fm_inquiry_ask(&q, 10), 0);
    assert_int_equal(fm_inquiry_ask(&q, 20), 0);
    assert_int_equal(started, 1);
    fm_inquiry_read(&q, &seen, NULL);
    assert_true(seen.under_way && seen.asked == 10);
    struct fm_buf text = text_of("first");
    fm_inquiry_answer(&q, FM_ANSWER_TEXT, &text);
    assert_int_equal(told, 1);
    expect(&q, FM_ANSWER_TEXT, 10, "first");
    assert_int_equal(fm_inquiry_ask(&q, 30), 0);
    assert_int_equal(started, 2);
    expect(&q, FM_ANSWER_TEXT, 10, "first"); /* until there is another one */
    text = text_of("of no account");
    fm_inquiry_listen(&q, NULL, NULL);
    fm_inquiry_answer(&q, FM_ANSWER_FAILED, &text);
    assert_int_equal(told, 1);
    expect(&q, FM_ANSWER_FAILED, 30, "");
    fm_buf_fini(&q.text);
}

static void test_a_thread_that_cannot_start(void **state)
{
    struct fm_inquiry q = FM_INQUIRY_INIT(start);
    (void)state;
    started = 0;
    refusal = -EAGAIN;
    assert_int_equal(fm_inquiry_ask(&q, 10), -EAGAIN);
    refusal = 0;
    assert_int_equal(fm_inquiry_ask(&q, 20), 0);
    assert_int_equal(started, 1);
    struct fm_buf text = text_of("at last");
    fm_inquiry_answer(&q, FM_ANSWER_TEXT, &text);
    expect(&q, FM_ANSWER_TEXT, 20, "at last");
    fm_buf_fini(&q.text);
}

/* ---- from several threads: for the sanitizers ---- */

#define TIMES 2000

static void *answer_main(void *arg)
{
    struct fm_inquiry *q = arg;
    struct fm_inquiry_seen seen;
    for (unsigned i = 0; i < TIMES;) {
        fm_inquiry_read(q, &seen, NULL);
        if (!seen.under_way)
            continue;
        struct fm_buf text = text_of("an answer");
        fm_inquiry_answer(q, FM_ANSWER_TEXT, &text);
        i++;
    }
    return NULL;
}

static void test_reading_meanwhile(void **state)
{
    struct fm_inquiry q = FM_INQUIRY_INIT(start);
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, answer_main, &q), 0);
    for (unsigned asked = started = 0; asked < TIMES; asked = started) {
        struct fm_inquiry_seen seen;
        struct fm_buf got = FM_BUF_INIT;
        fm_inquiry_ask(&q, asked + 1);
        fm_inquiry_read(&q, &seen, &got);
        assert_true(seen.how == FM_ANSWER_NONE || fm_buf_size(&got) == strlen("an answer"));
        fm_buf_fini(&got);
    }
    pthread_join(thread, NULL);
    expect(&q, FM_ANSWER_TEXT, TIMES, "an answer");
    fm_buf_fini(&q.text);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_one_at_a_time),
    cmocka_unit_test(test_a_thread_that_cannot_start),
    cmocka_unit_test(test_reading_meanwhile),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }
