/* The process that executes the configuration file; see worker/reader.h. */
#include "fermata/worker/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fermata/py/embedded.h"
#include "fermata/py/interp.h"

#define MOST (1 << 20) /* bytes of settings */

int fm_reader_start(struct fm_reader *r, char **argv, int directory)
{
    int ends[2];
    *r = FM_READER_NONE;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    int err = fm_again_start(&r->process, argv, directory, FM_READER_VARIABLE, ends[1]);
    close(ends[1]);
    r->fd = ends[0];
    if (err != 0)
        fm_reader_end(r);
    return err;
}

/* The last record, which no part of another one looks like. */
static bool is_whole(const struct fm_buf *text)
{
    static const char last[] = ".\0000\0n\0"; /* and the zero byte of the literal */
    size_t n = fm_buf_size(text);
    return n >= sizeof last && memcmp(fm_buf_head(text) + n - sizeof last, last, sizeof last) == 0;
}

int fm_reader_read(struct fm_reader *r)
{
    char bytes[16384];
    ssize_t n = read(r->fd, bytes, sizeof bytes);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -EPIPE;
    fm_buf_append(&r->text, bytes, (size_t)n);
    if (r->text.failed || fm_buf_size(&r->text) > MOST)
        return -E2BIG;
    return is_whole(&r->text);
}

void fm_reader_end(struct fm_reader *r)
{
    if (r->fd >= 0)
        close(r->fd);
    fm_again_end(&r->process);
    fm_buf_fini(&r->text);
    *r = FM_READER_NONE;
}

int fm_reader_be(const struct fm_options *o, const char *program, int fd) FM_UNCHECKED
{
    struct fm_interp_config config = {o->venv, o->venv_is_active, o->pythonpath, program, o->args, o->nargs};
    if (fm_interp_start(&config) != 0)
        return 2;
    int code = fm_embedded_settings(o->config, fd);
    fm_interp_flush();
    fflush(NULL);
    return code;
}
