/* Which transitions of the table a verification has taken: spin's generated program is compiled with this, and prints
 * `move FROM TO` for each of them at its end. */
#include <stdio.h>
#include <stdlib.h>

static unsigned char cover_seen[8][8];

static void cover_print(void)
{
    for (int from = 0; from < 8; from++)
        for (int to = 0; to < 8; to++)
            if (cover_seen[from][to])
                printf("move %d %d\n", from, to);
}

static void cover(int from, int to)
{
    static int begun;
    if (!begun) {
        begun = 1;
        atexit(cover_print);
    }
    cover_seen[from][to] = 1;
}
