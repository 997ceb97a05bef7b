#include "CStandardStreams.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

// A standard stream that a command was started without is a number that the next descriptor gets: what is read
// as input is then an event loop's, and messages go into a connection. So each of them is occupied, by what
// cannot be read or written, as a closed one, before libraries and the runtime open anything.
__attribute__((constructor(101))) static void occupy_standard_streams(void) {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++) {
    if (fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this one, for those below are taken.
    (void)open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}
