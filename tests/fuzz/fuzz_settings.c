/* What a config reader prints, whatever it is: it is applied, or there is a sentence that says what is wrong; the same
 * again gives the same; what --print-config shows of it has a line for each option.
 *
 * Input: the records of src/config/settings.c; the last one is put behind them.  Names are not looked up, and no
 * environment is changed.
 *
 * Covers: src/config/settings.c src/config/names.c src/config/given.c src/config/print.c */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "fermata/config/options.h"
#include "outside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char last[] = ".\0000\0n\0";

/* Returns what was said of it, or NULL; *shown is what is printed then. */
static const char *configure(struct fm_options *o, const uint8_t *data, size_t size, char **shown)
{
    char *settings = malloc(size + sizeof last);
    size_t n;
    *shown = NULL;
    if (size > 0)
        memcpy(settings, data, size);
    memcpy(settings + size, last, sizeof last);
    if (fm_options_configure(o, settings, size + sizeof last, true) != FM_OPTIONS_RUN)
        return o->wrong;
    fm_options_environment(o);
    FILE *to = open_memstream(shown, &n);
    fm_options_print(o, to);
    fclose(to);
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *argv[] = {(char *)(uintptr_t) "fermata", (char *)(uintptr_t) "-c", (char *)(uintptr_t) "f.py",
                           (char *)(uintptr_t) "app"};
    struct fm_options o;
    char *first, *again;
    if (fm_options_parse(&o, 4, argv, "3") != FM_OPTIONS_RUN)
        fuzz_fail("the command line is refused");
    const char *wrong = configure(&o, data, size, &first);
    const char *wrong_again = configure(&o, data, size, &again);
    if (!wrong != !wrong_again || (wrong && strcmp(wrong, wrong_again) != 0))
        fuzz_fail("applied twice, it is not the same: %s, %s", wrong, wrong_again);
    if (wrong && !*wrong)
        fuzz_fail("nothing is said");
    if (first && (strcmp(first, again) != 0 || !strstr(first, "threads = ")))
        fuzz_fail("what is shown is: %s", first);
    free(first);
    free(again);
    fm_options_free(&o);
    return 0;
}
