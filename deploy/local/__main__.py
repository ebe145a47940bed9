"""Entry: refuses an old Python in words, before anything is imported that an old Python cannot read."""

import sys

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036  # a virtual environment may be older than this project
        sys.stderr.write("carillon: needs Python 3.11 or newer, this is %d.%d\n" % sys.version_info[:2])  # noqa: UP031
        sys.exit(2)
    from deploy.local.commands import main

    sys.exit(main(sys.argv[1:]))
