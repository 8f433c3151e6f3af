"""A broker as a child of the service: `python -m holdall.broker SETTINGS`."""

from holdall.broker.loop import serve
from holdall.service.child import run_supervised
from holdall.service.settings import BrokerSettings

run_supervised(BrokerSettings, serve)
