"""The files of large values."""
