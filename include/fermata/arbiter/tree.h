/* What the files of some directories, and some named by patterns, look like: to be compared with how they looked.
 *
 * Reading it may wait for a disk, so it is for a thread of its own; a tree is one thread's. */
#ifndef FERMATA_ARBITER_TREE_H
#define FERMATA_ARBITER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define FM_TREE_PATTERNS 64

struct fm_tree_file {
    char *path;
    uint64_t device, inode, size;
    int64_t seconds, nanoseconds; /* of the last change of its content */
};

struct fm_tree {
    char **directories; /* each with the Python files in it, and whether those below it are packages */
    size_t ndirectories;
    const char *patterns[FM_TREE_PATTERNS];
    size_t npatterns;
    struct fm_tree_file *files; /* by path, as of the last look */
    size_t nfiles;
    char *changed; /* that was found last */
};

void fm_tree_fini(struct fm_tree *t);

/* Adds a directory, unless it is there already.  What lies in it now is no change, but for what was written after
 * `since` (CLOCK_REALTIME), when the application had not been read yet; NULL: never. */
void fm_tree_add(struct fm_tree *t, const char *directory, const struct timespec *since);

/* Adds a pattern of glob(3), which is not copied: the files that it means, at any time, or all that is below the
 * directories that it means.  What it means now is no change. */
void fm_tree_add_pattern(struct fm_tree *t, const char *pattern);

/* Looks at all files.  The name of one that is not as it was, or has come, or is gone; NULL if there is none.  It lives
 * until the next look. */
const char *fm_tree_look(struct fm_tree *t);

/* Is a change of a file of this name to be looked at?  Python's source, and no editor's own file. */
bool fm_tree_is_source(const char *name);

/* Calls fn with each directory in which a change can be, as they are now. */
void fm_tree_each(const struct fm_tree *t, void (*fn)(void *ctx, const char *directory), void *ctx);

#endif
