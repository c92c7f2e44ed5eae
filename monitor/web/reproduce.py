"""The command that reproduces an exchange independently, with Salesforce's CLI."""

import shlex

from monitor.core.connection import Connection


def command(connection: Connection) -> str:
    """The setup guide's troubleshooting command for this connection.

    Sets the audience: by default the CLI uses the generic login host (sfdx-core,
    `SfdcUrl.getJwtAudienceUrl`), so the command would try something else than the monitor.
    """
    words = {
        # Placeholders for what must not be on a page; quoted, as `<` and `>` would be redirections.
        "--client-id": "<consumer key>",
        "--jwt-key-file": "<private-key.pem>",
        "--username": connection.username,
        "--instance-url": connection.login_url,
    }
    options = " \\\n".join(f"  {option} {shlex.quote(value)}" for option, value in words.items())
    return f"SF_AUDIENCE_URL={shlex.quote(connection.audience)} sf org login jwt \\\n{options}"
