"""A worker as a child of the service: `python -m holdall.worker SETTINGS`."""

from holdall.service.child import run_supervised
from holdall.service.settings import WorkerSettings
from holdall.worker.loop import serve

run_supervised(WorkerSettings, serve)
