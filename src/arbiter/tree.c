/* Files and how they look; see arbiter/tree.h. */
#include "fermata/arbiter/tree.h"

#include <dirent.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/util/err.h"

#define DEEPEST 32       /* levels below a directory of a pattern */
#define MOST_FILES 50000 /* more is a mistake: the root of a disk */

struct files { /* of one look */
    struct fm_tree_file *all;
    size_t n, room;
};

static void free_files(struct fm_tree_file *files, size_t n)
{
    for (size_t i = 0; files && i < n; i++)
        free(files[i].path);
    free(files);
}

void fm_tree_fini(struct fm_tree *t)
{
    free_files(t->files, t->nfiles);
    for (size_t i = 0; i < t->ndirectories; i++)
        free(t->directories[i]);
    free(t->directories);
    free(t->changed);
    *t = (struct fm_tree){0};
}

bool fm_tree_is_source(const char *name)
{
    size_t len = strlen(name);
    return len > 3 && name[0] != '.' && strcmp(name + len - 3, ".py") == 0;
}

/* ---- a look ---- */

static void put(struct files *f, const char *path, const struct stat *st)
{
    if (f->n == MOST_FILES)
        return;
    if (f->n == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        f->all = fm_realloc(f->all, f->room * sizeof *f->all);
    }
    f->all[f->n++] = (struct fm_tree_file){.path = fm_strndup(path, strlen(path)),
                                           .device = st->st_dev,
                                           .inode = st->st_ino,
                                           .size = (uint64_t)st->st_size,
                                           .seconds = st->st_mtim.tv_sec,
                                           .nanoseconds = st->st_mtim.tv_nsec};
}

static bool join(char path[PATH_MAX], const char *directory, const char *name)
{
    return snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX;
}

static bool is_hidden(const char *name) { return name[0] == '.' || strcmp(name, "__pycache__") == 0; }

/* The Python files in it, and what makes a package of a directory below it: one that is imported already has been added
 * itself. */
static void put_sources(struct files *f, const char *directory)
{
    char path[PATH_MAX], below[PATH_MAX];
    struct stat st;
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        bool source = fm_tree_is_source(e->d_name);
        if (!source && (is_hidden(e->d_name) || e->d_type == DT_REG))
            continue;
        const char *within = source ? directory : join(below, directory, e->d_name) ? below : NULL;
        if (!within || !join(path, within, source ? e->d_name : "__init__.py"))
            continue;
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
            put(f, path, &st);
    }
    if (d)
        closedir(d);
}

/* All that is below, but for hidden files and what Python compiles. */
static void put_below(struct files *f, const char *directory, int depth)
{
    char path[PATH_MAX];
    struct stat st;
    DIR *d = depth < DEEPEST ? opendir(directory) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (is_hidden(e->d_name) || !join(path, directory, e->d_name) || lstat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode))
            put_below(f, path, depth + 1);
        else if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
            put(f, path, &st);
    }
    if (d)
        closedir(d);
}

static void put_pattern(struct files *f, const char *pattern)
{
    glob_t found = {0};
    struct stat st;
    if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) {
            if (stat(found.gl_pathv[i], &st) != 0)
                continue;
            if (S_ISDIR(st.st_mode))
                put_below(f, found.gl_pathv[i], 0);
            else
                put(f, found.gl_pathv[i], &st);
        }
    globfree(&found);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct fm_tree_file *)a)->path, ((const struct fm_tree_file *)b)->path);
}

/* What a directory and a pattern have in common is there once. */
static void sort(struct files *f)
{
    size_t kept = 0;
    if (f->n > 0)
        qsort(f->all, f->n, sizeof *f->all, by_path);
    for (size_t i = 0; i < f->n; i++) {
        if (kept > 0 && strcmp(f->all[kept - 1].path, f->all[i].path) == 0)
            free(f->all[i].path);
        else
            f->all[kept++] = f->all[i];
    }
    f->n = kept;
}

static struct files look(const struct fm_tree *t)
{
    struct files f = {NULL, 0, 0};
    for (size_t i = 0; i < t->ndirectories; i++)
        put_sources(&f, t->directories[i]);
    for (size_t i = 0; i < t->npatterns; i++)
        put_pattern(&f, t->patterns[i]);
    sort(&f);
    return f;
}

/* What is added counts as it is now; what is there already, as it was. */
static void take(struct fm_tree *t, struct files *more)
{
    struct files all = {t->files, t->nfiles, t->nfiles};
    for (size_t i = 0; i < more->n; i++) {
        struct fm_tree_file *known =
            t->nfiles ? bsearch(&more->all[i], t->files, t->nfiles, sizeof *t->files, by_path) : NULL;
        if (known) {
            free(more->all[i].path);
            continue;
        }
        all.all = fm_realloc(all.all, (all.n + 1) * sizeof *all.all);
        t->files = all.all;
        all.all[all.n++] = more->all[i];
    }
    free(more->all);
    sort(&all);
    t->files = all.all;
    t->nfiles = all.n;
}

/* It looks as if it had changed since the last look. */
static void expect_change(struct fm_tree_file *file) { file->nanoseconds = -1; }

void fm_tree_add(struct fm_tree *t, const char *directory, const struct timespec *since)
{
    struct files more = {NULL, 0, 0};
    for (size_t i = 0; i < t->ndirectories; i++)
        if (strcmp(t->directories[i], directory) == 0)
            return;
    t->directories = fm_realloc(t->directories, (t->ndirectories + 1) * sizeof *t->directories);
    t->directories[t->ndirectories++] = fm_strndup(directory, strlen(directory));
    put_sources(&more, directory);
    for (size_t i = 0; since && i < more.n; i++)
        if (more.all[i].seconds > since->tv_sec ||
            (more.all[i].seconds == since->tv_sec && more.all[i].nanoseconds > since->tv_nsec))
            expect_change(&more.all[i]);
    sort(&more);
    take(t, &more);
}

void fm_tree_add_pattern(struct fm_tree *t, const char *pattern)
{
    struct files more = {NULL, 0, 0};
    if (t->npatterns == FM_TREE_PATTERNS)
        return;
    t->patterns[t->npatterns++] = pattern;
    put_pattern(&more, pattern);
    sort(&more);
    take(t, &more);
}

/* ---- comparing ---- */

static bool is_same(const struct fm_tree_file *a, const struct fm_tree_file *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->seconds == b->seconds &&
           a->nanoseconds == b->nanoseconds;
}

/* The first one that differs, of the new ones if it is there. */
static const struct fm_tree_file *difference(const struct files *now, const struct fm_tree_file *before, size_t n)
{
    size_t i = 0, k = 0;
    while (i < now->n || k < n) {
        int order = i == now->n ? 1 : k == n ? -1 : strcmp(now->all[i].path, before[k].path);
        if (order < 0)
            return &now->all[i];
        if (order > 0)
            return &before[k];
        if (!is_same(&now->all[i++], &before[k++]))
            return &now->all[i - 1];
    }
    return NULL;
}

const char *fm_tree_look(struct fm_tree *t)
{
    struct files now = look(t);
    const struct fm_tree_file *found = difference(&now, t->files, t->nfiles);
    free(t->changed);
    t->changed = found ? fm_strndup(found->path, strlen(found->path)) : NULL;
    free_files(t->files, t->nfiles);
    t->files = now.all;
    t->nfiles = now.n;
    return t->changed;
}

/* ---- where changes can be ---- */

struct walk {
    void (*fn)(void *ctx, const char *directory);
    void *ctx;
};

static void walk_below(const struct walk *w, const char *directory, int depth, int deepest)
{
    char path[PATH_MAX];
    struct stat st;
    w->fn(w->ctx, directory);
    DIR *d = depth < deepest ? opendir(directory) : NULL;
    for (struct dirent *e; d && (e = readdir(d));)
        if (!is_hidden(e->d_name) && e->d_type != DT_REG && join(path, directory, e->d_name) && lstat(path, &st) == 0 &&
            S_ISDIR(st.st_mode))
            walk_below(w, path, depth + 1, deepest);
    if (d)
        closedir(d);
}

/* The directories among what a pattern means; with those below them, or without. */
static void walk_pattern(const struct walk *w, const char *pattern, int deepest)
{
    glob_t found = {0};
    struct stat st;
    if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++)
            if (stat(found.gl_pathv[i], &st) == 0 && S_ISDIR(st.st_mode))
                walk_below(w, found.gl_pathv[i], 0, deepest);
    globfree(&found);
}

void fm_tree_each(const struct fm_tree *t, void (*fn)(void *ctx, const char *directory), void *ctx)
{
    struct walk w = {fn, ctx};
    for (size_t i = 0; i < t->ndirectories; i++)
        walk_below(&w, t->directories[i], 0, 1);
    for (size_t i = 0; i < t->npatterns; i++) {
        char above[PATH_MAX];
        const char *slash = strrchr(t->patterns[i], '/');
        size_t len = slash ? (size_t)(slash - t->patterns[i]) : 0;
        snprintf(above, sizeof above, "%.*s", (int)len, t->patterns[i]);
        walk_pattern(&w, t->patterns[i], DEEPEST);
        walk_pattern(&w, len > 0 ? above : slash ? "/" : ".", 0); /* where others may come that it means */
    }
}
