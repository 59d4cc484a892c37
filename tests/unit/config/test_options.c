/* config/options and config/hints: the command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/config/options.h"
#include "fermata/util/clock.h"

static struct fm_options o;
static char *said; /* what went to standard error, or to standard output */

/* The words of a command line behind its name, separated by blanks. */
static enum fm_options_outcome parse(const char *words)
{
    static char text[1024];
    char *argv[32] = {(char *)(uintptr_t) "fermata"}, *rest = NULL;
    int argc = 1;
    size_t n;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        argv[argc++] = word;
    FILE *out = stdout, *err = stderr;
    fm_options_free(&o);
    free(said);
    stdout = stderr = open_memstream(&said, &n);
    enum fm_options_outcome outcome = fm_options_parse(&o, argc, argv, "3.99");
    fclose(stdout);
    stdout = out;
    stderr = err;
    return outcome;
}

static void check_wrong(const char *words, const char *why)
{
    assert_int_equal(parse(words), FM_OPTIONS_WRONG);
    if (!strstr(said, why))
        fail_msg("%s: %s", words, said);
    assert_non_null(strstr(said, "\nfermata: see fermata --help\n"));
}

static int start(void **state)
{
    (void)state;
    unsetenv("PORT");
    unsetenv("VIRTUAL_ENV");
    unsetenv("WEB_CONCURRENCY");
    unsetenv("FORWARDED_ALLOW_IPS");
    unsetenv("SCRIPT_NAME");
    unsetenv("FERMATA_CMD_ARGS");
    unsetenv("GUNICORN_CMD_ARGS");
    return 0;
}

static void test_workers(void **state)
{
    (void)state;
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_int_equal(o.workers, 0);
    assert_int_equal(parse("-w 4 app"), FM_OPTIONS_RUN);
    assert_int_equal(o.workers, 4);
    setenv("WEB_CONCURRENCY", "3", 1);
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_int_equal(o.workers, 3);
    assert_int_equal(parse("--workers=2 app"), FM_OPTIONS_RUN);
    assert_int_equal(o.workers, 2);
    setenv("WEB_CONCURRENCY", "x", 1);
    check_wrong("app", "the environment's WEB_CONCURRENCY is x: it takes a whole number from 1 to 256");
    check_wrong("--workers 257 app", "--workers 257: it takes");
}

static void test_identity(void **state)
{
    (void)state;
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_true(!o.identity.has_user && !o.identity.has_group && !o.identity.initgroups);
    assert_int_equal(parse("-u root --initgroups app"), FM_OPTIONS_RUN);
    assert_true(o.identity.has_user && o.identity.has_group && o.identity.initgroups);
    assert_int_equal(o.identity.uid, 0);
    assert_int_equal(o.identity.gid, 0);
    assert_string_equal(o.identity.name, "root");
    assert_int_equal(parse("--group 7 --user 0 app"), FM_OPTIONS_RUN);
    assert_int_equal(o.identity.gid, 7);
    assert_string_equal(o.identity.name, "root");
    assert_int_equal(parse("-g 4294967294 -u 4294967293 app"), FM_OPTIONS_RUN);
    assert_int_equal(o.identity.uid, 4294967293);
    assert_int_equal(o.identity.gid, 4294967294);
    assert_string_equal(o.identity.name, "");
    check_wrong("-u 4294967293 app", "name the group as well, by --group");
    check_wrong("--user 4294967295 -g 1 app",
                "--user 4294967295: it takes the name of a user that there is, or a number");
    check_wrong("--user 99999999999 app", "--user 99999999999: it takes");
    check_wrong("--group x:y app", "--group x:y: it takes the name of a group that there is, or a number");
}

static void test_descriptors(void **state)
{
    (void)state;
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_false(o.has_bind);
    assert_int_equal(parse("-b fd://3 app"), FM_OPTIONS_RUN);
    assert_true(o.has_bind && o.bind[0].is_fd && o.bind[0].fd == 3);
    check_wrong("--admin-bind fd://3 app", "--admin-bind fd://3: it takes HOST:PORT, [IPv6]:PORT or unix:PATH");
    check_wrong("--admin-host a:80 app", "--admin-host a:80: it takes a name of a host, without a port");
}

static void test_proxies(void **state)
{
    (void)state;
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_true(o.proxy.trusted.unix_sockets && o.proxy.trusted.n == 2 && !o.proxy.trusted.any);
    assert_true(o.proxy.parts == FM_FORWARDED_PROTO && !o.proxy.rfc7239 && o.proxy_protocol == 0 && !o.root_path);
    setenv("FORWARDED_ALLOW_IPS", "*", 1);
    setenv("SCRIPT_NAME", "/shop/", 1);
    assert_int_equal(parse("--forwarded-header forwarded --proxy-protocol auto --proxy-allow-from 10.0.0.1 app"),
                     FM_OPTIONS_RUN);
    assert_true(o.proxy.trusted.any && o.proxy.rfc7239 && o.proxy_protocol == 3);
    assert_true(o.proxy_allow_from.n == 1 && !o.proxy_allow_from.any);
    assert_string_equal(o.root_path, "/shop");
    assert_int_equal(parse("--forwarded-allow-ips 192.0.2.0/24 --root-path / app"), FM_OPTIONS_RUN);
    assert_true(!o.proxy.trusted.any && o.proxy.trusted.n == 1 && o.proxy_allow_from.n == 1 && !o.root_path);
    setenv("FORWARDED_ALLOW_IPS", "here", 1);
    check_wrong("app", "the environment's FORWARDED_ALLOW_IPS is here: it takes addresses");
    check_wrong("--access-logformat %(h app", "it takes text with %(NAME)s");
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("app:application"), FM_OPTIONS_RUN);
    assert_string_equal(o.app, "app:application");
    assert_int_equal(o.nbinds, 1);
    assert_int_equal(fm_addr_port(&o.bind[0]), 8000);
    assert_int_equal(o.threads, 8);
    assert_int_equal(o.keep_alive, 5 * FM_SEC);
    assert_int_equal(o.request_timeout, 0);
    assert_int_equal(o.tcp_user_timeout, o.send_timeout + o.send_timeout / 4);
    assert_string_equal(o.python, "3.99");
    assert_int_equal(o.umask, -1);
    assert_int_equal(o.socket_mode, 0777);
    assert_int_equal(o.limits.fields, 100);
    assert_int_equal(o.log_level, FM_LOG_INFO);
    assert_string_equal(o.error_logfile, "-");
    assert_null(o.access_logfile);
    assert_null(o.venv);
    assert_false(o.has_admin || o.allow_half_close);
    assert_int_equal(o.nargs, 0);
}

static void test_forms(void **state)
{
    (void)state;
    assert_int_equal(
        parse("--threads=3 --keep-alive 0.5 -b 127.0.0.1:8001 -b=unix:/tmp/s -m 0o027 --allow-half-close app"),
        FM_OPTIONS_RUN);
    assert_int_equal(o.threads, 3);
    assert_int_equal(o.keep_alive, FM_SEC / 2);
    assert_int_equal(o.nbinds, 2);
    assert_int_equal(o.umask, 027);
    assert_int_equal(o.socket_mode, 0750);
    assert_true(o.allow_half_close);
    assert_int_equal(parse("--limit-request-body 5 --log-level WARN --admin-bind 127.0.0.1:0 app"), FM_OPTIONS_RUN);
    assert_int_equal(o.limits.body, 5);
    assert_int_equal(o.log_level, FM_LOG_WARNING);
    assert_true(o.has_admin);
}

static void test_operands(void **state)
{
    (void)state;
    assert_int_equal(parse("app -- --threads x"), FM_OPTIONS_RUN);
    assert_int_equal(o.nargs, 2);
    assert_string_equal(o.args[0], "--threads");
    assert_int_equal(parse("-- app x"), FM_OPTIONS_RUN);
    assert_string_equal(o.app, "app");
    assert_int_equal(o.nargs, 1);
    check_wrong("app other", "two are named: app and other");
    check_wrong("", "which application?");
}

static void test_environment(void **state)
{
    (void)state;
    setenv("PORT", "4711", 1);
    setenv("VIRTUAL_ENV", "/some/venv", 1);
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_int_equal(fm_addr_port(&o.bind[0]), 4711);
    assert_string_equal(o.venv, "/some/venv");
    assert_true(o.venv_is_active);
    assert_int_equal(parse("--bind 127.0.0.1:1 --venv /other app"), FM_OPTIONS_RUN);
    assert_int_equal(fm_addr_port(&o.bind[0]), 1);
    assert_string_equal(o.venv, "/other");
    assert_false(o.venv_is_active);
    setenv("PORT", "many", 1);
    check_wrong("app", "PORT is many");
}

static void test_relative_paths(void **state)
{
    char here[FM_PATH_SIZE], want[FM_PATH_SIZE + 16];
    (void)state;
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(parse("--error-logfile e.log --access-logfile - --venv v app"), FM_OPTIONS_RUN);
    snprintf(want, sizeof want, "%s/e.log", here);
    assert_string_equal(o.error_logfile, want);
    assert_string_equal(o.access_logfile, "-");
    snprintf(want, sizeof want, "%s/v", here);
    assert_string_equal(o.venv, want);
}

static void test_wrong(void **state)
{
    (void)state;
    check_wrong("--threads 0 app", "--threads 0: it takes a whole number from 1 to 1000000");
    check_wrong("--threads", "--threads takes an argument: N, ");
    check_wrong("--keep-alive soon app", "such as 30 or 0.5");
    check_wrong("--keep-alive 1e3 app", "such as 30 or 0.5");
    check_wrong("--allow-half-close=yes app", "--allow-half-close takes no argument");
    check_wrong("--bind nowhere app", "--bind nowhere: it takes HOST:PORT");
    check_wrong("--admin-bind unix:@name app", "it takes HOST:PORT, [IPv6]:PORT or unix:PATH");
    check_wrong("--socket-mode 0 app", "an octal number from 1 to 777");
    check_wrong("--log-level loud app", "it takes debug, info");
    check_wrong("--env =x app", "it takes NAME=VALUE");
    check_wrong("--access-logfile= app", "it takes a value that is not empty");
    check_wrong("--log-buffer 1 app", "from 65536 to 1073741824");
    check_wrong("--no-such app", "there is no option --no-such\n");
}

static void test_reload(void **state)
{
    (void)state;
    parse("--reload --reload-extra-file *.toml --reload-extra-file templates --reload-engine poll app");
    assert_true(o.reload);
    assert_int_equal(o.workers, 1);
    assert_int_equal(o.nreload_extra, 2);
    assert_string_equal(o.reload_extra[1], "templates");
    assert_int_equal(o.reload_engine, FM_RELOAD_POLL);
    assert_true(o.graceful_timeout == FM_RELOAD_GRACE);
    parse("--reload -w 3 --graceful-timeout 1 app");
    assert_int_equal(o.workers, 3);
    assert_true(o.graceful_timeout == UINT64_C(1000000000));
    assert_int_equal(o.reload_engine, FM_RELOAD_AUTO);
    check_wrong("--reload-engine fast app", "it takes auto, inotify or poll");
    check_wrong("--reload-extra-file= app", "it takes a value that is not empty");
}

static void test_hints(void **state)
{
    (void)state;
    check_wrong("--preload-app app", "there is no option --preload-app: it is --preload");
    check_wrong("--certfile x app", "there is no option --certfile: Fermata speaks no TLS");
    check_wrong("-D app", "there is no option -D: it stays in the foreground: use systemd");
    check_wrong("--wrokers 2 app", "there is no option --wrokers, but there is --workers");
    check_wrong("--no-such-thing app", "there is no option --no-such-thing\n");
    assert_non_null(fm_options_hint("--keepalive=2"));
    assert_null(fm_options_hint("--w")); /* letters are short options */
    assert_null(fm_options_hint("--bind"));
}

/* What has no effect here is taken without a word. */
static void test_ignored(void **state)
{
    (void)state;
    assert_int_equal(parse("-k gevent --worker-tmp-dir /dev/shm --no-sendfile --reuse-port --no-control-socket -R app"),
                     FM_OPTIONS_RUN);
    assert_string_equal(said, "");
    assert_int_equal(parse("app --worker-class=sync"), FM_OPTIONS_RUN);
    check_wrong("-kuvicorn.workers.UvicornWorker app",
                "--worker-class uvicorn.workers.UvicornWorker: it takes a class for "
                "WSGI");
    check_wrong("--worker-tmp-dir", "--worker-tmp-dir takes an argument: DIR");
}

static void test_aliases(void **state)
{
    (void)state;
    assert_int_equal(parse("--log-file - --limit-request-field-size 5 --access-log-format x app"), FM_OPTIONS_RUN);
    assert_int_equal(o.limits.field_size, 5);
    assert_string_equal(o.access_logformat, "x");
    assert_int_equal(parse("--limit-request-line 0 app"), FM_OPTIONS_RUN);
    assert_int_equal(o.limits.request_line, 1 << 24);
}

static void test_command_variable(void **state)
{
    (void)state;
    setenv("GUNICORN_CMD_ARGS", "--threads 3 --bind 127.0.0.1:1 --access-logformat '%(h)s \"a b\"' --keep-alive\t4", 1);
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_int_equal(o.threads, 3);
    assert_int_equal(o.keep_alive, 4 * FM_SEC);
    assert_string_equal(o.access_logformat, "%(h)s \"a b\"");
    assert_int_equal(fm_addr_port(&o.bind[0]), 1);
    assert_int_equal(parse("--bind 127.0.0.1:2 app --threads 4"), FM_OPTIONS_RUN);
    assert_int_equal(o.nbinds, 1);
    assert_int_equal(fm_addr_port(&o.bind[0]), 2);
    assert_int_equal(o.threads, 4);
    setenv("FERMATA_CMD_ARGS", "--threads 5", 1); /* and the other one is not looked at */
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_int_equal(o.threads, 5);
    assert_int_equal(fm_addr_port(&o.bind[0]), 8000);
    setenv("FERMATA_CMD_ARGS", "--threads x", 1);
    check_wrong("app", "fermata: $FERMATA_CMD_ARGS: --threads x: it takes a whole number");
    setenv("FERMATA_CMD_ARGS", "--nothing", 1);
    check_wrong("app", "fermata: $FERMATA_CMD_ARGS: there is no option --nothing");
    setenv("FERMATA_CMD_ARGS", "other", 1);
    check_wrong("app", "fermata: $FERMATA_CMD_ARGS has other in it");
}

static void test_supervision(void **state)
{
    (void)state;
    assert_int_equal(parse("app"), FM_OPTIONS_RUN);
    assert_int_equal(o.timeout, 30 * FM_SEC);
    assert_int_equal(o.drain_timeout, o.graceful_timeout);
    assert_int_equal(o.drain_idle, FM_SEC);
    assert_int_equal(o.min_ready, 1);
    assert_true(o.max_requests == 0 && o.max_worker_memory == 0 && o.worker_lifetime == 0 && o.gil_timeout == 0);
    assert_int_equal(parse("-t 5 -w 4 --max-requests 1000 --max-requests-jitter=50 --max-worker-memory 200000000 "
                           "--worker-lifetime 3600 --min-ready 2 --drain-timeout 600 --drain-workers 3 app"),
                     FM_OPTIONS_RUN);
    assert_int_equal(o.timeout, 5 * FM_SEC);
    assert_int_equal(o.max_requests, 1000);
    assert_int_equal(o.max_requests_jitter, 50);
    assert_int_equal(o.max_worker_memory, 200000000);
    assert_int_equal(o.worker_lifetime, 3600 * FM_SEC);
    assert_int_equal(o.min_ready, 2);
    assert_int_equal(o.drain_timeout, 600 * FM_SEC);
    assert_int_equal(o.drain_workers, 3);
    check_wrong("-w 4 --min-ready 5 app", "--min-ready 5: it takes at most the number of --workers, 4");
    check_wrong("--min-ready 2 app", "--min-ready 2: it takes at most the number of --workers, 1");
    check_wrong("-t soon app", "--timeout soon: it takes a number of seconds");
    check_wrong("--max-requests -1 app", "--max-requests -1: it takes");
}

static void test_shown(void **state)
{
    (void)state;
    assert_int_equal(parse("--version"), FM_OPTIONS_SHOWN);
    assert_non_null(strstr(said, "(Python 3.99)\n"));
    assert_int_equal(parse("--threads 2 -h"), FM_OPTIONS_SHOWN);
    assert_non_null(strstr(said, "  -b, --bind ADDRESS "));
    assert_non_null(strstr(said, "as many as processors, where there are more [8]\n"));
    assert_int_equal(parse("--help=man"), FM_OPTIONS_SHOWN);
    assert_non_null(strstr(said, ".TH FERMATA 1"));
    assert_non_null(strstr(said, "\\-\\-limit\\-request\\-field_size"));
    assert_int_equal(parse("--help=settings"), FM_OPTIONS_SHOWN);
    assert_non_null(strstr(said, "| `--access-logfile` | `accesslog` |"));
    check_wrong("--help=more", "--help=more: it takes man");
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),         TEST(test_forms),   TEST(test_operands),    TEST(test_environment),
        TEST(test_relative_paths),   TEST(test_wrong),   TEST(test_hints),       TEST(test_shown),
        TEST(test_workers),          TEST(test_proxies), TEST(test_ignored),     TEST(test_aliases),
        TEST(test_command_variable), TEST(test_reload),  TEST(test_supervision), TEST(test_identity),
        TEST(test_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
