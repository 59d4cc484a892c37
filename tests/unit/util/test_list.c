/* The intrusive list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fermata/util/list.h"

struct item {
    int before;
    struct fm_list node;
    char name;
};

/* The names in order, walked both ways. */
static void assert_names(struct fm_list *head, const char *names)
{
    const char *s = names;
    for (struct fm_list *n = head->next; n != head; n = n->next, s++) {
        assert_int_equal(FM_LIST_ENTRY(n, struct item, node)->name, *s);
        assert_ptr_equal(n->next->prev, n);
        assert_ptr_equal(n->prev->next, n);
    }
    assert_int_equal(*s, '\0');
    for (struct fm_list *n = head->prev; n != head; n = n->prev)
        assert_int_equal(FM_LIST_ENTRY(n, struct item, node)->name, *--s);
    assert_ptr_equal(s, names);
    assert_int_equal(fm_list_empty(head), *names == '\0');
}

static void fill(struct fm_list *head, struct item *items, const char *names)
{
    fm_list_init(head);
    for (size_t i = 0; names[i]; i++) {
        items[i].name = names[i];
        fm_list_init(&items[i].node);
        fm_list_push(head, &items[i].node);
    }
}

static void test_push_and_pop(void **state)
{
    (void)state;
    struct fm_list head;
    struct item items[5];
    fill(&head, items, "");
    assert_names(&head, "");
    assert_null(fm_list_pop(&head));
    fill(&head, items, "abcde");
    assert_names(&head, "abcde");
    for (int i = 0; i < 5; i++) {
        struct fm_list *node = fm_list_pop(&head);
        assert_ptr_equal(FM_LIST_ENTRY(node, struct item, node), &items[i]);
        assert_true(fm_list_empty(node)); /* in no list: points to itself */
    }
    assert_null(fm_list_pop(&head));
    assert_names(&head, "");
}

static void test_remove(void **state)
{
    (void)state;
    struct fm_list head;
    struct item items[4];
    fill(&head, items, "abcd");
    fm_list_remove(&items[1].node);
    assert_names(&head, "acd");
    fm_list_remove(&items[1].node); /* safe to repeat */
    assert_names(&head, "acd");
    fm_list_remove(&items[0].node);
    assert_names(&head, "cd");
    fm_list_remove(&items[3].node);
    assert_names(&head, "c");
    fm_list_push(&head, &items[0].node);
    assert_names(&head, "ca");
    fm_list_remove(&items[2].node);
    fm_list_remove(&items[0].node);
    assert_names(&head, "");
}

static void test_append(void **state)
{
    (void)state;
    struct fm_list from, to;
    struct item items[3], others[2];
    for (int n = 0; n <= 3; n++) {
        for (int m = 0; m <= 2; m++) {
            char both[6];
            fill(&from, items, &"xyz"[3 - n]);
            fill(&to, others, &"ab"[2 - m]);
            strcat(strcpy(both, &"ab"[2 - m]), &"xyz"[3 - n]);
            fm_list_append(&to, &from);
            assert_names(&to, both);
            assert_names(&from, "");
            if (n + m == 0)
                continue;
            fm_list_push(&from, fm_list_pop(&to)); /* both are lists of their own */
            assert_names(&to, both + 1);
            assert_int_equal(FM_LIST_ENTRY(from.next, struct item, node)->name, both[0]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push_and_pop),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_append),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
