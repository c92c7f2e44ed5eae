"""The command that reproduces an exchange by other means than ours: Salesforce's own CLI."""

import shlex

from monitor.core.connection import Connection

CONSUMER_KEY = "<consumer key>"
KEY_FILE = "<private-key.pem>"
"""Placeholders for what must not stand on a page; quoted, as they would be redirections otherwise."""


def command(connection: Connection) -> str:
    """The line of the setup guide's troubleshooting, for this connection.

    The CLI chooses an audience of its own, the generic login host (sfdx-core, `SfdcUrl.getJwtAudienceUrl`),
    so this connection's is set before it: else the command would try something other than the monitor does.
    """
    words = {
        "--client-id": CONSUMER_KEY,
        "--jwt-key-file": KEY_FILE,
        "--username": connection.username,
        "--instance-url": connection.login_url,
    }
    options = " \\\n".join(f"  {option} {shlex.quote(value)}" for option, value in words.items())
    return f"SF_AUDIENCE_URL={shlex.quote(connection.audience)} sf org login jwt \\\n{options}"
