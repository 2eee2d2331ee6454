/* Which image a launch is of, where the request's own is the base of one (front/base.c). */
#ifndef SINGULARITY_NAMED_H
#define SINGULARITY_NAMED_H

#include "request.h"

static inline const char *image_named(const struct request *request)
{
    for (uint32_t i = 0; i < request->overlay_count; i++)
        if (request->overlay[i].number & OVERLAY_LAYER)
            return request->overlay[i].first;
    return request->image;
}

#endif
