/* A walk over all requests of the worker for the status pages (admin/status.h), a part in each turn of the loop. */
#ifndef FERMATA_WORKER_SURVEY_H
#define FERMATA_WORKER_SURVEY_H

#include "fermata/admin/admin.h"

/* What the admin port is to ask: fm_admin_source.walk, which is given a worker. */
bool fm_survey_walk(void *worker, struct fm_status *s, bool first);

/* fm_admin_source.about. */
void fm_survey_about(void *worker, struct fm_status_about *about);

/* fm_admin_source.ask_stacks. */
int fm_survey_ask_stacks(void *worker, void (*found)(void *arg, struct fm_stacks *stacks), void *arg);

#endif
