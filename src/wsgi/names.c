/* Interned strings: dictionary keys that hash once. */
#include "internal.h"

PyObject *fm_name[FM_N_COUNT];
PyObject *fm_header_key[FM_H_OTHER];

int fm_names_init(void)
{
    static const char *const names[] = {
#define X(id, text) text,
        FM_NAMES(X)
#undef X
    };
    static const char *const keys[] = {
#define X(id, name, key) key,
        FM_HEADERS(X)
#undef X
    };
    for (int i = 0; i < FM_N_COUNT; i++)
        if (!(fm_name[i] = PyUnicode_InternFromString(names[i])))
            return -1;
    for (int i = 0; i < FM_H_OTHER; i++)
        if (!(fm_header_key[i] = PyUnicode_InternFromString(keys[i])))
            return -1;
    return 0;
}

void fm_names_fini(void)
{
    for (int i = 0; i < FM_N_COUNT; i++)
        Py_CLEAR(fm_name[i]);
    for (int i = 0; i < FM_H_OTHER; i++)
        Py_CLEAR(fm_header_key[i]);
}
