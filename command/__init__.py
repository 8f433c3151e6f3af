"""The command line. Nothing else loads click and rich."""
