"""Prometheus alert rules for one configuration: the catalogue's causes, the fleet, and the daemon itself.

`rules` is the way in. `wording` says it to a person, `document` writes YAML; `causes`, `fleet` and `daemon`
are the rules.
"""

from monitor.config import Settings
from monitor.rules import causes, daemon, fleet
from monitor.rules.document import Group, document

__all__ = ["rules"]


def rules(settings: Settings) -> str:
    """The rule file for Prometheus, as YAML with the reason of each number in a comment.

    Who changes intervals, settle times or links makes it anew: it holds for the configuration it was made of.
    """
    holds, links = settings.terms.holds, settings.terms.links
    return document(
        Group(
            "bearerwatch-fleet",
            "Totals, what is held, and what only many or much time can show. Apart from the single alerts:"
            " where thousands fail, those take Prometheus seconds, and must not delay the one about many.",
            [*fleet.RECORDS, causes.held(links), *fleet.many(), *fleet.alerts(holds, links)],
        ),
        Group("bearerwatch-connections", "One alert for each cause.", causes.alerts(holds, links)),
        Group(
            "bearerwatch-daemon",
            "Without these, silence of the others proves nothing.",
            daemon.alerts(holds, links),
        ),
    )
