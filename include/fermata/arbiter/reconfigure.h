/* The configuration file, read again for a reload: by a config reader (worker/reader.h), while all goes on.  Its
 * failure is the reload's, and nothing else. */
#ifndef FERMATA_ARBITER_RECONFIGURE_H
#define FERMATA_ARBITER_RECONFIGURE_H

#include "fermata/config/options.h"
#include "fermata/net/loop.h"
#include "fermata/worker/reader.h"

struct fm_reconfigure {
    struct fm_loop *loop;
    char **argv;                    /* of this command */
    int directory;                  /* in which it was given */
    const struct fm_options *first; /* what the process began with: the caller's */
    /* Other options hold from now on; those that held until now go when it has returned. */
    void (*on_options)(void *ctx, const struct fm_options *to);
    void (*on_read)(void *ctx); /* after that: workers that are started get them */
    void (*on_failed)(void *ctx, const char *why);
    void *ctx;
    const struct fm_options *options; /* that hold */
    const struct fm_options *before;  /* that held before a reload that is not through, or NULL */
    int settings_before;              /* and what workers were handed then, or -1 */
    struct fm_reader reader;
    struct event *event; /* while it reads */
};

/* The caller has set all down to ctx. */
void fm_reconfigure_init(struct fm_reconfigure *r);

/* Reads the file; one that is being read is given up for it.  on_read or on_failed is called then, once, also from
 * within. */
void fm_reconfigure_start(struct fm_reconfigure *r) FM_ON_LOOP;

/* A worker of what was read is ready: it stays so. */
void fm_reconfigure_keep(struct fm_reconfigure *r) FM_ON_LOOP;

/* The reload has failed: all is as it was before it. */
void fm_reconfigure_back(struct fm_reconfigure *r) FM_ON_LOOP;

/* Gives up what is being read, and frees all. */
void fm_reconfigure_fini(struct fm_reconfigure *r) FM_ON_LOOP;

#endif
