/* The socket of commands of the host, as the container has it. */
#include "commands.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../descriptor.h"

int commands_connect(void)
{
    const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = COMMANDS_INSIDE "/" COMMANDS_SOCKET};
    OWNED_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return fd_give(&fd);
}

void commands_greet(void)
{
    OWNED_FD fd = access(COMMANDS_INSIDE "/" COMMANDS_SOCKET, F_OK) == 0 ? commands_connect() : -1;

    (void)fd;
}
