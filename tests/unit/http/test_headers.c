/* Header names and character classes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <strings.h>

#include "fermata/http/headers.h"

static const struct {
    const char *name, *key;
} known[] = {
#define X(id, name, key) {name, key},
    FM_HEADERS(X)
#undef X
};

static void test_lookup_finds_every_name(void **state)
{
    (void)state;
    for (unsigned id = 0; id < FM_H_OTHER; id++) {
        char text[64];
        size_t len = strlen(known[id].name);
        assert_int_equal(fm_header_lookup(known[id].name, len), id);
        for (size_t i = 0; i <= len; i++)
            text[i] = (char)(known[id].name[i] | (known[id].name[i] >= 'A' ? 0x20 : 0));
        assert_int_equal(fm_header_lookup(text, len), id);
        for (size_t i = 0; i <= len; i++)
            text[i] = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] & ~0x20 : text[i]);
        assert_int_equal(fm_header_lookup(text, len), id);
    }
}

static void test_lookup_finds_no_other_name(void **state)
{
    (void)state;
    for (unsigned id = 0; id < FM_H_OTHER; id++) {
        char text[64];
        size_t len = strlen(known[id].name);
        for (size_t i = 0; i < len; i++) { /* any one byte different, bit 0x20 of a dash among them */
            strcpy(text, known[id].name);
            for (unsigned c = 0; c < 256; c++) {
                text[i] = (char)c;
                if (strcasecmp(text, known[id].name) != 0)
                    assert_int_not_equal(fm_header_lookup(text, len), id);
            }
        }
        assert_int_not_equal(fm_header_lookup(known[id].name, len - 1), id);
        assert_int_not_equal(fm_header_lookup(known[id].name + 1, len - 1), id);
    }
    assert_int_equal(fm_header_lookup("", 0), FM_H_OTHER);
    assert_int_equal(fm_header_lookup("X-Nobody-Knows", 14), FM_H_OTHER);
}

/* PEP 3333: the key follows from the name. */
static void test_environ_keys(void **state)
{
    (void)state;
    for (unsigned id = 0; id < FM_H_OTHER; id++) {
        char key[64] = "HTTP_";
        size_t n = id == FM_H_CONTENT_TYPE || id == FM_H_CONTENT_LENGTH ? 0 : 5;
        for (const char *s = known[id].name; *s; s++)
            key[n++] = (char)(*s == '-' ? '_' : *s >= 'a' ? *s & ~0x20 : *s);
        key[n] = '\0';
        assert_string_equal(key, known[id].key);
    }
}

static void test_classes(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        char byte = (char)c;
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z', digit = c >= '0' && c <= '9';
        bool mark = c != 0 && strchr("!#$%&'*+-.^_`|~", (int)c);
        assert_int_equal(fm_is_token(&byte, 1), letter || digit || mark);
        assert_int_equal(fm_is_field_value(&byte, 1), c == '\t' || (c >= ' ' && c != 0x7f));
        for (unsigned d = 0; d < 256; d++) {
            char other = (char)d;
            assert_int_equal(fm_ascii_ieq(&byte, 1, &other, 1), c == d || (letter && (c ^ d) == 0x20));
        }
    }
    assert_false(fm_is_token("", 0));
    assert_false(fm_is_token("a b", 3));
    assert_true(fm_is_token("a-b", 3));
    assert_true(fm_is_field_value("", 0));
    assert_false(fm_is_field_value("a\r\nb", 4));
    assert_false(fm_ascii_ieq("ab", 2, "a", 1));
    assert_true(fm_ascii_ieq("", 0, "", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookup_finds_every_name),
        cmocka_unit_test(test_lookup_finds_no_other_name),
        cmocka_unit_test(test_environ_keys),
        cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
