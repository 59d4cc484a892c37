/* The command line of the load generator. */
#include "load.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct load_options options = {
    .host = "127.0.0.1",
    .path = "/",
    .release_path = "/release",
    .beside_path = "/hello",
    .count_path = "/parked",
    .connections = 100,
    .sources = 1,
    .waves = 1,
    .beside = 1000,
    .duration = 5,
    .warmup = 1,
    .timeout = 60,
};

#define COMMON                                                                                                         \
    {"--host", OPTION_TEXT, &options.host, "ADDRESS", "of the server, in 127.0.0.0/8 [127.0.0.1]"},                    \
        {"--port", OPTION_PORT, &options.port, "P", "of the server"},                                                  \
        {"--path", OPTION_PATH, &options.path, "PATH", "what to ask for [/]"},                                         \
        {"-c", OPTION_COUNT, &options.connections, "N", "connections [100]"},                                          \
        {"--sources", OPTION_COUNT, &options.sources, "K", "connect from 127.0.0.1 to 127.0.0.K in turn [1]"},         \
        {"--timeout", OPTION_SECONDS, &options.timeout, "S", "for connecting, parking, resuming [60]"},                \
    {                                                                                                                  \
        "-H", OPTION_HEADER, &options.headers, "'Name: value'", "one more header; repeatable"                          \
    }

static const struct option_row closed_rows[] = {
    COMMON,
    {"--duration", OPTION_SECONDS, &options.duration, "S", "time measured [5]"},
    {"--warmup", OPTION_SECONDS, &options.warmup, "S", "time before that, once all are connected [1]"},
};

static const struct option_row park_rows[] = {
    COMMON,
    {"--release-path", OPTION_PATH, &options.release_path, "PATH", "lets all go on [/release]"},
    {"--count-path", OPTION_PATH, &options.count_path, "PATH", "answers how many are parked [/parked]"},
    {"--beside-path", OPTION_PATH, &options.beside_path, "PATH", "asked for meanwhile [/hello]"},
    {"--beside", OPTION_COUNT, &options.beside, "N", "how often [1000, within 5 seconds]"},
    {"--waves", OPTION_COUNT, &options.waves, "N", "how often all of it [1]"},
    {"--server-pid", OPTION_COUNT, &options.server_pid, "PID", "whose memory is of interest, with its descendants"},
};

static const struct option_row sse_rows[] = {
    COMMON,
    {"--duration", OPTION_SECONDS, &options.duration, "S", "events made in this time count [5]"},
};

#define MODE(name, help)                                                                                               \
    {                                                                                                                  \
#name, load_##name, name##_rows, sizeof name##_rows / sizeof name##_rows[0], help                              \
    }

static const struct mode {
    const char *name;
    int (*run)(const struct load_options *, const struct target *);
    const struct option_row *rows;
    size_t nrows;
    const char *help;
} modes[] = {
    MODE(closed, "usage: load closed --port P [options]\n\n"
                 "Requests on keep-alive connections, each as soon as the last is answered.\n"
                 "Exits with 1 if none was answered with 2xx."),
    MODE(park, "usage: load park --port P --path PATH [options]\n\n"
               "Requests that wait until one more request releases them. Each wave opens all connections and closes\n"
               "them when all are answered. Exits with 1 unless all were parked and answered."),
    MODE(sse, "usage: load sse --port P --path PATH [options]\n\n"
              "Clients of a stream of events `data: NANOSECONDS`, the monotonic time when they were made.\n"
              "Exits with 1 unless every client got every event."),
};
#define NMODES (sizeof modes / sizeof modes[0])

static const struct mode *find_mode(const char *name)
{
    for (size_t i = 0; name && i < NMODES; i++)
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    usage_error("the first argument is closed, park or sse (load closed --help says more)");
}

static struct sockaddr_in server_address(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    if (!options.port)
        usage_error("--port is missing");
    if (inet_pton(AF_INET, options.host, &to.sin_addr) != 1 || ntohl(to.sin_addr.s_addr) >> 24 != 127)
        usage_error("--host takes an address in 127.0.0.0/8, not '%s'", options.host);
    return to;
}

static void check_sources(void)
{
    unsigned first = 32768, last = 60999;
    FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (f && fscanf(f, "%u %u", &first, &last) != 2)
        usage_error("ip_local_port_range cannot be read");
    if (f)
        fclose(f);
    unsigned ports = last - first - 100; /* some are taken */
    unsigned need = (options.connections + ports - 1) / ports;
    if (options.sources > 254)
        usage_error("--sources takes a whole number from 1 to 254");
    if (options.sources < need)
        usage_error("--sources must be %u or more: an address has %u ports for -c %u connections", need, ports,
                    options.connections);
}

int main(int argc, char **argv)
{
    const struct mode *mode = find_mode(argc > 1 ? argv[1] : NULL);
    parse_options(argv + 1, mode->help, mode->rows, mode->nrows);
    struct target target = {.address = server_address(), .sources = options.sources};
    check_sources();
    need_descriptors(options.connections + 20);
    signal(SIGPIPE, SIG_IGN);
    target.request = make_request(&target.address, options.path, options.headers);
    target.nrequest = strlen(target.request);
    int code = mode->run(&options, &target);
    free(target.request);
    free(options.headers);
    return code;
}
