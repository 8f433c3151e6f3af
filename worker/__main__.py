"""A worker as a child of the service: `python -m holdall.worker SETTINGS`."""

from holdall.process.child import run_supervised
from holdall.process.config import WorkerSettings

from .serve import serve

run_supervised(WorkerSettings, serve)
