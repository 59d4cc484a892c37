/* The roles themselves: nothing but names for clang, and a per-thread note for debug builds. */
#include "fermata/util/annotate.h"

#include <assert.h>

struct fm_role fm_role_loop;
struct fm_role fm_role_gil;
__thread int fm_thread_on_loop;

void fm_role_take_loop(void) FM_UNCHECKED
{
    assert(!fm_thread_on_loop);
    fm_thread_on_loop = 1;
}

void fm_role_drop_loop(void) FM_UNCHECKED
{
    assert(fm_thread_on_loop);
    fm_thread_on_loop = 0;
}

void fm_assert_on_loop(void) { assert(fm_thread_on_loop); }
