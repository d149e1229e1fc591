"""Runs the `footplate` command as `python -m footplate`."""

import sys

from footplate.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
