"""The command line. Needs the extra `cli` (click and rich)."""
