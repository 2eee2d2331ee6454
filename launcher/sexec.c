/* The starter without privilege, as a program of its own: what sexec-suid executes, for launches through a user namespace and for
 * the start of the program. The front door has the same in itself. */
#include "starter.h"

int main(int argc, char **argv)
{
    launch_here(NULL, NULL, argc, argv);
}
