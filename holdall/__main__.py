"""`python -m holdall`: the command line."""

from holdall.command.main import main

main()
