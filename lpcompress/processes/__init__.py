"""Processes that share a run, and the devices they compute on."""

from lpcompress.processes.crew import SharedFit
from lpcompress.processes.devices import checked_device
from lpcompress.processes.sharing import deal, spread, too_large
from lpcompress.processes.workers import Alone, Workers, joined_processes

__all__ = ["Alone", "SharedFit", "Workers", "checked_device", "deal", "joined_processes", "spread", "too_large"]
