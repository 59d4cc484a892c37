/* The id of a request: what finds it again in the logs, here and at the proxy in front.
 *
 * It is what the client has sent in the field that the rule names, if that can stand in a log as it is, or else made:
 * 128 random bits in hexadecimal, as nginx's $request_id.  Nothing is decided by an id, so it is taken from any client:
 * one who sends the same twice only makes his own requests harder to find. */
#ifndef FERMATA_HTTP_REQUEST_ID_H
#define FERMATA_HTTP_REQUEST_ID_H

#include "fermata/http/request.h"
#include "fermata/util/annotate.h"

#define FM_ID_MAX 200 /* characters of one that is taken, as Heroku's router has it */

struct fm_id_rule {
    const char *name; /* of the field, a token */
    bool usual;       /* it is X-Request-ID */
    bool off;         /* requests have no ids */
};

/* The name of a field, which is kept by its pointer, or "off".  NULL, or what it takes. */
const char *fm_id_rule_parse(struct fm_id_rule *rule, const char *text);

/* Gives the request its id, unless it has one.  A batch of random numbers is the loop's, so that it takes no lock and
 * a system call for each is not needed. */
void fm_request_id_give(const struct fm_id_rule *rule, struct fm_request *r) FM_ON_LOOP;

#endif
