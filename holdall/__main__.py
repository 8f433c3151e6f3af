"""`python -m holdall`: the command line."""

from holdall.command.cli import main

main()
