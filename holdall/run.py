"""`python -m holdall.run FILE`: the same as `holdall run FILE`."""

import sys

from holdall.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main()
