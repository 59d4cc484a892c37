/* The state of the interpreter; src/wsgi/gateway.c makes and drops what is in it. */
#include "state.h"

struct fm_wsgi_state fm_wsgi = {.lock = FM_MUTEX_INIT};
