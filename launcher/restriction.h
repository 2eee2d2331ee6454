/* What a program, and all that it starts, does without: the entries of `restriction` in a request. The front door writes them and the
 * last stage of a launch obeys them; nothing that has privilege reads them. */
#ifndef SINGULARITY_RESTRICTION_H
#define SINGULARITY_RESTRICTION_H

/* The number of an entry; its first text is the value, its second the option or variable that it came by. Numbers of the format: new
 * ones go before the last. */
enum restriction {
    RESTRICTION_HOME,      /* --read-only-home */
    RESTRICTION_NETWORK,   /* --deny-net */
    RESTRICTION_PATH,      /* --allow-paths: read and written, all others are not */
    RESTRICTION_PATH_READ, /* ... read alone */
    RESTRICTION_FILTER,    /* a profile's path; from bit RESTRICTION_DESCRIPTOR on what is open of the compiled filter */
    RESTRICTION_APPARMOR,
    RESTRICTION_SELINUX,
    RESTRICTION_UID,       /* a number in decimal */
    RESTRICTION_GID,       /* the same; the first one is the process's, the others are besides */
    RESTRICTION_RECORD,    /* --record: nothing is taken away; from bit RESTRICTION_DESCRIPTOR on the socket to who records */
    RESTRICTION_KINDS,
    RESTRICTION_KIND = 0xff, /* mask of these */
    RESTRICTION_DESCRIPTOR = 8,
};

#endif
