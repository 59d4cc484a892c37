"""The command: ``fermata``, and ``python -m fermata_server``."""

import os
import sys


def main() -> int:
    """Does what the command line says, and returns the exit code.  Once in a process, in its main thread."""
    added = not getattr(sys.flags, "safe_path", sys.flags.isolated)
    if added and not __package__:  # executed by its path, as workers are: see _host.again
        sys.path[0] = os.path.dirname(os.path.dirname(__file__))
    from fermata_server._server import command

    # Python has put the script's folder there, or with -m the current one: the application's path begins with the
    # directory that the server is in when it loads it.
    if added:
        del sys.path[0]
    return command(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
