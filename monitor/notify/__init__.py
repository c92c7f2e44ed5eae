"""Notifications: what is due to be told reaches Alertmanager, webhooks and notification services.

1. `wire`: one POST, bounded in time and size; what goes wrong is an Undelivered, with nothing secret in it.
2. `alertmanager`, `webhook`, `services`: how each kind of receiver is told.
3. `notifier`: the rounds: what is due for whom (`core.telling`), sent, and remembered once it was taken.
"""

from monitor.notify.notifier import Memory, Notifier, drill, sender
from monitor.notify.wire import Undelivered, Wire

__all__ = ["Memory", "Notifier", "Undelivered", "Wire", "drill", "sender"]
