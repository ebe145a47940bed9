"""Django's command line: `python -m app.manage`."""

import os
import signal
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
    # PID 1 of a container ignores SIGTERM unless told otherwise. As Ctrl-C it ends statements properly.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(130)
