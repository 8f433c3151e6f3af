"""The one exception with which a handler refuses a request."""

from __future__ import annotations


class Refused(Exception):
    """The request cannot be carried out: the status and the sentence of its reply. It has written nothing."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
