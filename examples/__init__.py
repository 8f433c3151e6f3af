"""Programs that use a Dict: `python -m examples.scraper`, for example, from a checkout. See README.md beside this file."""
