/* Requests: finding fields, and freeing what they hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fermata/http/headers.h"
#include "fermata/http/request.h"
#include "fermata/util/err.h"

static const char head[] = "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nAccept: b\r\nAccept: c\r\n\r\n";

static struct fm_request *make(void)
{
    static const struct fm_field fields[] = {
        {.name_off = 16, .name_len = 4, .value_off = 22, .value_len = 1, .id = FM_H_HOST},
        {.name_off = 25, .name_len = 1, .value_off = 28, .value_len = 1, .id = FM_H_OTHER},
        {.name_off = 31, .name_len = 6, .value_off = 39, .value_len = 1, .id = FM_H_ACCEPT},
        {.name_off = 42, .name_len = 6, .value_off = 50, .value_len = 1, .id = FM_H_ACCEPT},
    };
    return fm_request_new(NULL, head, sizeof head - 1, fields, 4);
}

static void test_find(void **state)
{
    (void)state;
    struct fm_request *r = make();
    assert_ptr_equal(fm_request_find(r, FM_H_HOST), &r->fields[0]);
    assert_ptr_equal(fm_request_find(r, FM_H_ACCEPT), &r->fields[2]); /* the first of them */
    assert_null(fm_request_find(r, FM_H_COOKIE));
    assert_memory_equal(fm_request_text(r, (struct fm_span){r->fields[3].value_off, 1}), "c", 1);
    r->nfields = 0;
    assert_null(fm_request_find(r, FM_H_HOST));
    fm_request_free(r);
}

static void test_describe(void **state)
{
    (void)state;
    struct fm_request *r = make();
    char text[16];
    r->method = (struct fm_span){0, 3};
    r->path = (struct fm_span){4, 1};
    fm_request_describe(r, text, sizeof text);
    assert_string_equal(text, "GET /");
    fm_request_describe(r, text, 4);
    assert_string_equal(text, "GET");
    r->path = (struct fm_span){0, r->head_len}; /* far more than fits */
    fm_request_describe(r, text, sizeof text);
    assert_int_equal(strlen(text), sizeof text - 1);
    fm_request_free(r);
}

static void test_frees_all(void **state)
{
    (void)state;
    fm_request_free(NULL);
    struct fm_request *r = make();
    assert_int_equal(fm_body_append(&r->body, "hello", 5), 0);
    fm_request_free(r); /* a leak would show under a sanitizer */
}

static void test_moved_body_stays(void **state)
{
    (void)state;
    struct fm_request *r = make();
    struct fm_body body;
    char text[5];
    assert_int_equal(fm_body_append(&r->body, "hello", 5), 0);
    fm_body_move(&body, &r->body);
    fm_request_free(r);
    assert_int_equal(fm_body_read(&body, 0, text, 5), 5);
    assert_memory_equal(text, "hello", 5);
    fm_body_fini(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_frees_all),
        cmocka_unit_test(test_moved_body_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
