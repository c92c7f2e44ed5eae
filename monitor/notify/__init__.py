"""Sends notifications to Alertmanager, webhooks and notification services.

1. `wire`: one POST, bounded in time and size; failures are an Undelivered, without secrets.
2. `alertmanager`, `webhook`, `services`: the formats for each kind of sink.
3. `notifier`: one round: sends what is due (`core.telling`), and remembers what was accepted.
"""

from monitor.notify.notifier import Memory, Notifier, drill, send
from monitor.notify.wire import NOTIFYING, Undelivered, Wire

__all__ = ["NOTIFYING", "Memory", "Notifier", "Undelivered", "Wire", "drill", "send"]
