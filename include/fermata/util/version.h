/* The version: that of the newest heading in CHANGELOG.md, which the Makefile passes on. */
#ifndef FERMATA_UTIL_VERSION_H
#define FERMATA_UTIL_VERSION_H

#ifndef FM_VERSION
#define FM_VERSION "0" /* for tools that read the code without the Makefile's flags */
#endif

#endif
