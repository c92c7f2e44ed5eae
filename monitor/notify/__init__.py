"""Notifications: what is due reaches Alertmanager, webhooks and notification services.

1. `wire`: one POST, bounded in time and size; what goes wrong is an Undelivered, with nothing secret in it.
2. `alertmanager`, `webhook`, `services`: how each kind of receiver gets it.
3. `notifier`: one round: what is due (`core.telling`) is sent, and remembered once it was taken.
"""

from monitor.notify.notifier import Memory, Notifier, drill, send
from monitor.notify.wire import NOTIFYING, Undelivered, Wire

__all__ = ["NOTIFYING", "Memory", "Notifier", "Undelivered", "Wire", "drill", "send"]
