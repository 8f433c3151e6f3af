"""A broker as a child of the service: `python -m holdall.broker SETTINGS`."""

from holdall.broker.loop import BrokerSettings, serve
from holdall.service.child import run_supervised

run_supervised(BrokerSettings, serve)
