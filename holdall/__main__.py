"""`python -m holdall`: the command line."""

from importlib import import_module

import_module("holdall.command.cli").main()  # by name: nothing in this folder depends on the command line
