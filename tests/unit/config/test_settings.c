/* config/settings, names and print: what a file sets, as its reader prints it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/names.h"
#include "fermata/config/options.h"
#include "fermata/util/clock.h"

static struct fm_options o;
static char *said;
static char *argv[16];
static int argc;

/* The command line's words, and then what a reader prints: "name:line:type:value" for each. */
static enum fm_options_outcome configure(const char *words, size_t n, const char *const *records)
{
    static char text[1024];
    char *rest = NULL, *settings = NULL;
    size_t size, printed;
    fm_options_free(&o);
    free(said);
    argv[0] = (char *)(uintptr_t) "fermata";
    argc = 1;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        argv[argc++] = word;
    FILE *blob = open_memstream(&settings, &size), *err = stderr;
    for (size_t i = 0; i < n; i++) {
        int fields = 0;
        for (const char *p = records[i]; *p; p++) {
            bool ends = *p == ':' && fields < 3; /* later colons are the value's */
            fields += ends;
            fputc(ends ? '\0' : *p, blob);
        }
        fputc('\0', blob);
    }
    fwrite(".\0000\0n\0", 1, 7, blob);
    fclose(blob);
    stderr = open_memstream(&said, &printed);
    enum fm_options_outcome outcome = fm_options_parse(&o, argc, argv, "3");
    if (outcome == FM_OPTIONS_RUN && o.config)
        outcome = fm_options_configure(&o, settings, size, false);
    else
        free(settings);
    fclose(stderr);
    stderr = err;
    return outcome;
}

#define CONFIGURE(words, ...)                                                                                          \
    configure(words, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

static void check_wrong(const char *why)
{
    if (!strstr(said, why))
        fail_msg("%s", said);
}

static int start(void **state)
{
    static const char *const names[] = {"PORT",        "VIRTUAL_ENV",      "WEB_CONCURRENCY",  "FORWARDED_ALLOW_IPS",
                                        "SCRIPT_NAME", "FERMATA_CMD_ARGS", "GUNICORN_CMD_ARGS"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    return 0;
}

static void test_types(void **state)
{
    (void)state;
    assert_int_equal(CONFIGURE("-c f app", "workers:1:i:3", "keepalive:2:f:2.5", "umask:3:i:23", "accesslog:4:s:-",
                               "errorlog:5:n:", "proxy_protocol:6:b:true", "allow_half_close:7:b:true",
                               "forwarded_allow_ips:8:l:10.0.0.1", "forwarded_allow_ips:8:l:10.0.0.2",
                               "limit_request_field_size:9:s:77", "threads:10:s:5", "worker_class:11:c:a.b"),
                     FM_OPTIONS_RUN);
    assert_int_equal(o.workers, 3);
    assert_int_equal(o.keep_alive, 5 * FM_SEC / 2);
    assert_int_equal(o.umask, 027);
    assert_string_equal(o.access_logfile, "-");
    assert_string_equal(o.error_logfile, "-");
    assert_int_equal(o.proxy_protocol, 3);
    assert_true(o.allow_half_close && o.proxy.trusted.n == 2);
    assert_int_equal(o.limits.field_size, 77);
    assert_int_equal(o.threads, 5);
    assert_string_equal(said, "");
}

static void test_wrong_types(void **state)
{
    (void)state;
    static const struct {
        const char *record, *why;
    } rows[] = {
        {"workers:3:s:many", "f:3: workers = many: it takes a whole number from 1 to 256, or auto"},
        {"workers:3:l:1", "f:3: workers = a list: it takes a whole number"},
        {"workers:3:b:true", "f:3: workers = True: it takes a whole number"},
        {"threads:3:h:", "f:3: threads = a function: it takes a whole number"},
        {"accesslog:3:i:4", "f:3: accesslog = 4: it takes text"},
        {"bind:3:i:8000", "f:3: bind = 8000: it takes text"},
        {"bind:3:s:8000", "f:3: bind = 8000: it takes HOST:PORT"},
        {"preload_thing:0:e:", ""},
        {"chdir:0:o:Path", "f: chdir = Path: it takes text"},
        {"worker_class:3:s:uvicorn.workers.UvicornWorker", "it takes a class for WSGI"},
        {"raw_env:3:s:NAME", "f:3: raw_env = NAME: it takes NAME=VALUE"},
        {"keyfile:3:s:/k", "f:3: keyfile: Fermata speaks no TLS"},
        {"daemon:3:b:true", "f:3: daemon: it stays in the foreground: use systemd"},
        {"!:0:s:f:7: NameError", "fermata: f:7: NameError"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum fm_options_outcome outcome = configure("-c f app", 1, &rows[i].record);
        assert_int_equal(outcome, *rows[i].why ? FM_OPTIONS_WRONG : FM_OPTIONS_RUN);
        check_wrong(rows[i].why);
    }
}

static void test_precedence(void **state)
{
    (void)state;
    setenv("WEB_CONCURRENCY", "9", 1);
    setenv("PORT", "99", 1);
    assert_int_equal(CONFIGURE("-c f app", "bind:1:l:127.0.0.1:1", "bind:1:l:127.0.0.1:2", "workers:2:i:3"),
                     FM_OPTIONS_RUN);
    assert_int_equal(o.nbinds, 2);
    assert_int_equal(o.workers, 3);
    assert_int_equal(fm_addr_port(&o.bind[1]), 2);
    setenv("GUNICORN_CMD_ARGS", "--workers 4 --bind 127.0.0.1:3 -c f", 1);
    assert_int_equal(CONFIGURE("app", "bind:1:s:127.0.0.1:1,127.0.0.1:2", "workers:2:i:3"), FM_OPTIONS_RUN);
    assert_int_equal(o.nbinds, 1);
    assert_int_equal(fm_addr_port(&o.bind[0]), 3);
    assert_int_equal(o.workers, 4);
    assert_int_equal(CONFIGURE("app -w 5", "workers:2:i:3", "wsgi_app:3:s:other"), FM_OPTIONS_RUN);
    assert_int_equal(o.workers, 5);
    assert_string_equal(o.app, "app");
    assert_int_equal(CONFIGURE("-w 5", "wsgi_app:3:s:other"), FM_OPTIONS_RUN);
    assert_string_equal(o.app, "other");
    assert_int_equal(CONFIGURE("-w 5", "workers:3:i:2"), FM_OPTIONS_WRONG);
    check_wrong("which application?");
    unsetenv("GUNICORN_CMD_ARGS");
    assert_int_equal(CONFIGURE("-c f app", "threads:1:i:2"), FM_OPTIONS_RUN);
    assert_int_equal(o.workers, 9);
    assert_int_equal(fm_addr_port(&o.bind[0]), 99);
}

static void test_environment(void **state)
{
    (void)state;
    unsetenv("FM_ONE");
    setenv("FM_TWO", "kept", 1);
    assert_int_equal(CONFIGURE("-c f -e FM_TWO=command app", "raw_env:1:l:FM_ONE=file", "raw_env:1:l:FM_TWO=file"),
                     FM_OPTIONS_RUN);
    assert_null(getenv("FM_ONE"));
    fm_options_environment(&o);
    assert_string_equal(getenv("FM_ONE"), "file");
    assert_string_equal(getenv("FM_TWO"), "command");
    assert_int_equal(CONFIGURE("-c f app", "env:1:d:FM_ONE=dictionary"), FM_OPTIONS_RUN);
    fm_options_environment(&o);
    assert_string_equal(getenv("FM_ONE"), "dictionary");
}

static void test_unknown(void **state)
{
    (void)state;
    assert_int_equal(CONFIGURE("-c f app", "worker_timeout:3:iu:30", "cores:4:i:2", "max_worker:5:iu:2",
                               "sendfile:6:b:false", "logger_class:7:s:h",
                               "capture_thing:8:nu:", "on_start:9:hu:", "helper:10:hu:", "spew:11:b:false"),
                     FM_OPTIONS_RUN);
    assert_non_null(strstr(fm_options_warning(&o, 0), "f:3: there is no setting worker_timeout"));
    assert_non_null(strstr(fm_options_warning(&o, 1), "f:5: there is no setting max_worker"));
    assert_non_null(strstr(fm_options_warning(&o, 2), "f:7: logger_class does nothing here: the logs are the server"));
    assert_non_null(strstr(fm_options_warning(&o, 3), "f:8: there is no setting capture_thing"));
    assert_string_equal(fm_options_warning(&o, 4), "f:9: there is no setting on_start, but there is on_starting");
    assert_null(fm_options_warning(&o, 5));
}

static void test_hooks(void **state)
{
    (void)state;
    assert_int_equal(CONFIGURE("-c f app", "post_fork:3:h:", "on_exit:4:s:module.name", "when_ready:5:n:"),
                     FM_OPTIONS_RUN);
    assert_int_equal(o.hooks, fm_hook_bit("post_fork") | fm_hook_bit("on_exit"));
    assert_null(fm_options_warning(&o, 0));
}

static void test_again(void **state)
{
    (void)state;
    size_t size;
    assert_int_equal(CONFIGURE("-c f app", "workers:3:i:3", "nothing_such:1:iu:1"), FM_OPTIONS_RUN);
    char *settings = malloc(256);
    memcpy(settings, "threads\0001\0i\0003\0.\0000\0n\0", 21);
    assert_int_equal(fm_options_configure(&o, settings, 21, true), FM_OPTIONS_RUN);
    assert_int_equal(o.workers, 0);
    assert_int_equal(o.threads, 3);
    assert_null(fm_options_warning(&o, 0));
    assert_ptr_equal(fm_options_settings(&o, &size), settings);
    assert_int_equal(size, 21);
    settings = malloc(8);
    memcpy(settings, "threads", 8);
    assert_int_equal(fm_options_configure(&o, settings, 8, true), FM_OPTIONS_WRONG);
    assert_string_equal(o.wrong, "f: the reader of it has not said all");
}

static void test_print(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    setenv("GUNICORN_CMD_ARGS", "--keep-alive 7", 1);
    assert_int_equal(CONFIGURE("-c f app --log-level debug", "workers:3:i:3", "bind:4:l:127.0.0.1:1", "umask:5:i:23",
                               "access_log_format:6:s:a \"b\""),
                     FM_OPTIONS_RUN);
    FILE *to = open_memstream(&text, &size);
    fm_options_print(&o, to);
    fclose(to);
    static const char *const lines[] = {
        "wsgi_app = \"app\" # command line\n",
        "bind = [\"127.0.0.1:1\"]                        # f:4\n",
        "workers = 3                                   # f:3\n",
        "keepalive = 7                                 # $GUNICORN_CMD_ARGS\n",
        "umask = \"27\"                                  # f:5\n",
        "loglevel = \"debug\"                            # command line\n",
        "threads = 8                                   # default\n",
        "access_log_format = \"a \\\"b\\\"\"                 # f:6\n",
        "# chdir =                                     # default\n",
        "allow_half_close = false                      # default\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(text, lines[i]))
            fail_msg("there is no %s in %s", lines[i], text);
    free(text);
}

/* No name is in two of the tables, and each alias and setting is of an option that there is. */
static void test_table(void **state)
{
    char setting[FM_SETTING_SIZE];
    bool fatal;
    (void)state;
    for (size_t i = 0; i < fm_option_count; i++) {
        const struct fm_option *option = &fm_option_table[i];
        assert_ptr_equal(fm_option_by_name(option->name, strlen(option->name)), option);
        assert_ptr_equal(fm_option_by_setting(fm_option_setting_name(option, setting)), option);
        if (option->letter)
            assert_ptr_equal(fm_option_by_letter(option->letter), option);
        assert_null(fm_setting_hint(option->name, &fatal));
    }
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_types), TEST(test_wrong_types), TEST(test_precedence), TEST(test_environment), TEST(test_unknown),
        TEST(test_hooks), TEST(test_again),       TEST(test_print),      TEST(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
