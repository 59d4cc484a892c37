/* Runs a fuzz target over files, once each, without libFuzzer: `make unit` does it with the corpora.
 *
 * usage: TARGET FILE|DIRECTORY...  Exits 0 when all were run; a property that does not hold aborts. */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static unsigned nfiles;
static const char *current; /* the file that is run */

static void say_which(int signo)
{
    (void)signo;
    if (write(STDERR_FILENO, current, strlen(current)) > 0 && write(STDERR_FILENO, ": failed\n", 9) > 0)
        return; /* abort() goes on */
}

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        perror(path);
        exit(1);
    }
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1); /* exactly as large: a sanitizer sees what is read behind it */
    if (!data || fread(data, 1, size, f) != size) {
        perror(path);
        exit(1);
    }
    fclose(f);
    current = path;
    nfiles++;
    LLVMFuzzerTestOneInput(data, size);
    free(data);
}

static void run(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) {
        run_file(path);
        return;
    }
    char file[4096];
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        run_file(file);
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE|DIRECTORY...\n", argv[0]);
        return 2;
    }
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    signal(SIGABRT, say_which);
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    if (nfiles == 0) {
        fprintf(stderr, "%s: no files\n", argv[0]);
        return 1;
    }
    printf("%s: %u inputs\n", argv[0], nfiles);
    return 0;
}
