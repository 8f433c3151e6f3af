"""A worker as a child of the service: `python -m holdall.worker SETTINGS`."""

from holdall.service.child import run_supervised
from holdall.worker.loop import WorkerSettings, serve

run_supervised(WorkerSettings, serve)
