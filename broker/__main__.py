"""A broker as a child of the service: `python -m holdall.broker SETTINGS`."""

from holdall.process.child import run_supervised
from holdall.process.config import BrokerSettings

from .loop import serve

run_supervised(BrokerSettings, serve)
