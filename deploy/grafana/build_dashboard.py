"""Builds the Grafana dashboard: `python deploy/grafana/build_dashboard.py` writes it.

A test compares the file with this and runs all its queries. Each panel shows a connection once, regardless of
the number of replicas, and only connections selected by the variables.
"""

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import bargauge, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    TableSortByFieldState,
    VizLegendOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DashboardSpecialValueMapOptions,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    SpecialValueMap,
    SpecialValueMatch,
    ValueMap,
    ValueMappingResult,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE = Path(__file__).with_name("dashboard.json")

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

STATES = {
    "healthy": "green",
    "degraded": "yellow",
    "settling": "blue",
    "failing": "red",
    "unknown": "purple",
    "paused": "text",
}
SEVERITIES = {"critical": "red", "warning": "orange", "info": "blue"}

WINDOW = "30m"
"""The range for rates: six default intervals. With less, small fleets have gaps."""

JOB = 'job=~"$job"'
"""Selects the daemon's own metrics."""

PAGE = "${pages}/connections/${__data.fields.connection}"


def chosen(metric: str, by: str, matchers: str = "", shape: str = "METRIC") -> str:
    """A metric of the selected connections, each once; `shape` is applied to METRIC first."""
    selector = ",".join(part for part in (JOB, 'connection=~"$connection"', matchers) if part)
    having = f'bearerwatch_connection_info{{{JOB},$label=~"$value"}}'
    shaped = shape.replace("METRIC", f"bearerwatch_connection_{metric}{{{selector}}}")
    return f"max by ({by}) ({shaped} and on (connection) {having})"


def own(metric: str, matchers: str = "") -> str:
    """A metric of the daemon itself."""
    return f"bearerwatch_{metric}{{{','.join(part for part in (JOB, matchers) if part)}}}"


def quantile(share: float, metric: str) -> str:
    """A quantile of a histogram."""
    buckets = f"sum by (le) (rate({own(metric + '_bucket')}[{WINDOW}]))"
    return f"histogram_quantile({share}, {buckets})"


def query(
    expression: str, legend: str = "", ref: str = "A", *, instant: bool = False
) -> prometheus.Dataquery:
    """A range or instant query."""
    made = (
        prometheus.Dataquery()
        .expr(expression)
        .legend_format(legend or "__auto")
        .ref_id(ref)
        .datasource(SOURCE)
    )
    return made.instant() if instant else made.range()


def rows(expression: str, ref: str = "A") -> prometheus.Dataquery:
    """An instant query with one table row per series."""
    return query(expression, ref=ref, instant=True).format(PromQueryFormat.TABLE)


# Kinds of panels


def number(title: str, meaning: str, unit: str, *queries: prometheus.Dataquery, wide: int = 4) -> stat.Panel:
    """Current values in large figures."""
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(wide)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for one in queries:
        panel.with_target(one)
    return panel


def graph(
    title: str, meaning: str, unit: str, *queries: prometheus.Dataquery, wide: int = 12
) -> timeseries.Panel:
    """A time series."""
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(wide)
        .fill_opacity(10)
        .legend(legend.show_legend(True))
    )
    for one in queries:
        panel.with_target(one)
    return panel


def listing(
    title: str, meaning: str, order: str, *queries: prometheus.Dataquery, wide: int = 12
) -> table.Panel:
    """A table with a row for each connection, or for each of its items."""
    panel = (
        table.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .height(9)
        .span(wide)
        .sort_by([TableSortByFieldState().display_name(order).desc(False)])
        .override_by_name("connection", [config("links", [page_link()])])
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
    )
    for one in queries:
        panel.with_target(one)
    return panel


def config(name: str, value: object) -> DynamicConfigValue:
    """A field property for an override."""
    return DynamicConfigValue(id_val=name, value=value)


def fixed(colour: str) -> list[DynamicConfigValue]:
    """A fixed colour."""
    return [config("color", {"mode": FieldColorModeId.FIXED.value, "fixedColor": colour})]


def coloured(colours: dict[str, str]) -> list[DynamicConfigValue]:
    """Colours for the values of a table column."""
    options = {text: {"color": colour, "index": at} for at, (text, colour) in enumerate(colours.items())}
    return [
        config("mappings", [{"type": "value", "options": options}]),
        config("custom.cellOptions", {"type": "color-text"}),
    ]


def page_link() -> dict[str, Any]:
    """A link from a connection's name to its page."""
    return {"title": "Evidence, remedy and history", "url": PAGE, "targetBlank": True}


def columns(shown: dict[str, str]) -> DataTransformerConfig:
    """The shown columns, in order, with their headings."""
    return DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {"Time": True},
            "indexByName": {name: at for at, name in enumerate(shown)},
            "renameByName": {name: title for name, title in shown.items() if name != title},
        },
    )


# The panels


def fleet(board: dashboard.Dashboard) -> None:
    """State and findings of the connections."""
    by_state = f"sum by (state) ({chosen('state', 'connection, state')})"
    states = number("Connections", "By state, now.", "short", query(by_state, "{{state}}"), wide=16)
    over_time = graph(
        "States over time", "Number of connections in each state.", "short", query(by_state, "{{state}}")
    )
    over_time.fill_opacity(60).stacking(StackingConfig().mode(StackingMode.NORMAL))
    for state, colour in STATES.items():
        states.override_by_name(state, fixed(colour))
        over_time.override_by_name(state, fixed(colour))
    watched = chosen("state", "connection", 'state="paused"')
    working = f"avg({chosen('up', 'connection')} and on (connection) {watched} == 0)"
    failed, replica = (
        f"increase({own('failures_total')}[{WINDOW}])",
        "on (job, instance) bearerwatch_replicas",
    )
    of_all = f"avg by (job, cause) ({failed} and {replica})"  # each replica counts those of all
    failures = f"sum by (cause) ({failed} unless {replica} or {of_all})"
    board.with_row(dashboard.Row("Fleet"))
    board.with_panel(states)
    board.with_panel(
        number(
            "Working",
            "Share of connections, excluding paused ones, whose last exchange was granted.",
            "percentunit",
            query(working),
        ).max(1)
    )
    board.with_panel(
        number(
            "With a finding",
            "Connections with at least one active cause.",
            "short",
            query(f"count(count by (connection) ({chosen('finding', 'connection, cause')})) or vector(0)"),
        )
    )
    since = f"{chosen('finding_since_timestamp_seconds', 'connection, cause')} * 1000"
    finding = chosen("finding", "connection, cause, severity, responsible")
    board.with_panel(
        listing(
            "Findings",
            "What is wrong, and who must act. Connections link to their pages.",
            "Since",
            rows(f"{finding} * on (connection, cause) group_left () {since}"),
            wide=24,
        )
        .override_by_name("severity", coloured(SEVERITIES))
        .override_by_name("Since", [config("unit", "dateTimeFromNow")])
        .with_transformation(
            columns(
                {
                    "connection": "connection",
                    "cause": "cause",
                    "severity": "severity",
                    "responsible": "responsible",
                    "Value": "Since",
                }
            )
        )
    )
    board.with_panel(over_time)
    board.with_panel(
        graph(
            "Failed checks by cause",
            f"Within {WINDOW}, for the whole fleet: this metric has no label for the connection.",
            "short",
            query(failures, "{{cause}}"),
        )
    )


def time_left(board: dashboard.Dashboard) -> None:
    """Expiry dates."""
    ends = chosen("certificate_not_after_timestamp_seconds", "connection, slot")
    approved = chosen("approval_since_timestamp_seconds", "connection")
    forecast = chosen("approval_forecast_timestamp_seconds", "connection")
    board.with_row(dashboard.Row("Certificates and approvals"))
    board.with_panel(
        listing(
            "Certificate expiry",
            "Certificates in use, and those to rotate to.",
            "Left",
            rows(f"{ends} * 1000"),
            rows(f"{ends} - time()", "B"),
        )
        .override_by_name("Ends", [config("unit", "dateTimeAsIso")])
        .override_by_name("Left", [config("unit", "dtdurations")])
        .with_transformation(
            columns({"connection": "connection", "slot": "slot", "Value #A": "Ends", "Value #B": "Left"})
        )
    )
    board.with_panel(
        listing(
            "Approvals",
            "Age of each approval, and its expected end if the lifetime is declared or was learnt.",
            "Left",
            rows(f"time() - {approved}"),
            rows(f"{forecast} * 1000", "B"),
            rows(f"{forecast} - time()", "C"),
        )
        .override_by_name("Age", [config("unit", "dtdurations")])
        .override_by_name("Forecast end", [config("unit", "dateTimeAsIso")])
        .override_by_name("Left", [config("unit", "dtdurations")])
        .with_transformation(
            columns(
                {
                    "connection": "connection",
                    "Value #A": "Age",
                    "Value #B": "Forecast end",
                    "Value #C": "Left",
                }
            )
        )
    )


def exchanges(board: dashboard.Dashboard) -> None:
    """Durations, clocks and logins."""
    board.with_row(dashboard.Row("Exchanges"))
    board.with_panel(
        graph(
            "Exchange duration",
            f"Over {WINDOW}, for the whole fleet.",
            "s",
            *(
                query(quantile(share, "exchange_duration_seconds"), legend, ref)
                for share, legend, ref in ((0.5, "median", "A"), (0.95, "95%", "B"), (0.99, "99%", "C"))
            ),
        )
    )
    board.with_panel(
        bargauge.Panel()
        .title("Slowest connections")
        .description("Duration of the last exchange.")
        .datasource(SOURCE)
        .unit("s")
        .height(8)
        .span(6)
        .with_target(
            query(
                f"topk(10, {chosen('last_exchange_duration_seconds', 'connection')})",
                "{{connection}}",
                instant=True,
            )
        )
    )
    board.with_panel(
        graph(
            "Clock offset",
            "Largest difference between a server's clock and ours.",
            "s",
            query(f"max(abs({chosen('clock_offset_seconds', 'connection')}))", "largest difference"),
            wide=6,
        )
    )
    logins = chosen("exchanges_total", "connection", shape="increase(METRIC[1h])")
    board.with_panel(
        graph(
            "Logins per hour",
            "The ten connections with the most logins. All checks of a username share login_budget_per_hour;"
            " Salesforce allows a user 3,600.",
            "short",
            query(f"topk(10, {logins})", "{{connection}}"),
        )
    )
    board.with_panel(
        graph(
            "Postponed checks",
            "Per hour, because the login budget of their username was used up.",
            "short",
            query(f"sum(increase({own('logins_deferred_total')}[1h]))", "postponed"),
        )
    )


def daemon(board: dashboard.Dashboard) -> None:
    """Health of the daemon itself."""
    board.with_row(dashboard.Row("The daemon"))
    held = ValueMap(
        options={
            "0": ValueMappingResult(text="reload failed", color="red", index=0),
            "1": ValueMappingResult(text="loaded", color="green", index=1),
        }
    )
    none = SpecialValueMap(
        options=DashboardSpecialValueMapOptions(
            match=SpecialValueMatch.NULL, result=ValueMappingResult(text="absent", color="red", index=2)
        )
    )
    board.with_panel(
        number(
            "Daemons",
            "Daemons that Prometheus scrapes.",
            "short",
            query(f"count({own('build_info')})", "running"),
            wide=8,
        ).mappings([none])
    )
    board.with_panel(
        number(
            "Configuration",
            "Result of the last reload.",
            "short",
            query(f"min({own('config_last_reload_successful')})"),
            wide=8,
        ).mappings([held, none])
    )
    healthy = own("connection_state", 'state="healthy"')
    covered = f"count({healthy})"
    board.with_panel(
        number(
            "Not covered",
            "Configured connections without a series.",
            "short",
            query(f"sum({own('connections_configured')}) - {covered}"),
            wide=8,
        )
    )
    board.with_panel(
        graph(
            "Check delay",
            f"How late checks start, over {WINDOW}.",
            "s",
            query(quantile(0.5, "schedule_delay_seconds"), "median"),
            query(quantile(0.95, "schedule_delay_seconds"), "95%", "B"),
        )
    )
    board.with_panel(
        graph(
            "Internal problems",
            "Per hour. Each of these has an alert.",
            "short",
            *(
                query(f"sum(increase({own(metric, matchers)}[1h]))", legend, ref)
                for ref, metric, matchers, legend in (
                    ("A", "store_errors_total", "", "failed writes"),
                    ("B", "notifications_failed_total", "", "failed notifications"),
                    ("C", "schedule_missed_total", "", "missed checks"),
                    ("D", "log_messages_total", 'level=~"error|critical"', "errors in the log"),
                )
            ),
        )
    )
    board.with_panel(
        graph(
            "Exchanges in progress",
            "At most max_in_flight.",
            "short",
            query(f"sum({own('exchanges_in_flight')})", "in progress"),
            wide=8,
        )
    )
    having = f"and on (job, instance) {own('build_info')}"
    board.with_panel(
        graph(
            "CPU",
            "1 is one core.",
            "short",
            query(f"rate(process_cpu_seconds_total{{{JOB}}}[5m]) {having}", "{{instance}}"),
            wide=8,
        )
    )
    board.with_panel(
        graph(
            "Memory",
            "Resident memory.",
            "bytes",
            query(f"process_resident_memory_bytes{{{JOB}}} {having}", "{{instance}}"),
            wide=8,
        )
    )


# The variables


def choice(name: str, label: str, values: str, everything: str = ".*") -> dashboard.QueryVariable:
    """A variable with values from Prometheus; default: all."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(values)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def variables(board: dashboard.Dashboard) -> None:
    """The dashboard's variables."""
    info = "bearerwatch_connection_info"
    board.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    board.with_variable(choice("job", "Job", "label_values(bearerwatch_build_info, job)"))
    board.with_variable(
        choice("label", "Label", f"label_names({info})")
        .regex("^(?!__name__$|job$|instance$|connection$).*")
        .multi(False)
        .include_all(False)
        .all_value("")
        .current(VariableOption(selected=True, text="host", value="host"))
    )
    board.with_variable(choice("value", "is", f"label_values({info}{{{JOB}}}, $label)"))
    board.with_variable(
        choice("connection", "Connection", f'label_values({info}{{{JOB},$label=~"$value"}}, connection)')
    )
    board.with_variable(
        dashboard.TextBoxVariable("pages")
        .label("Status page")
        .default_value("http://127.0.0.1:9877")
        .hide(VariableHide.DONT_HIDE)
    )


def built() -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard("bearerwatch")
        .uid("bearerwatch")
        .description(
            "Salesforce JWT Bearer credentials: which work, which fail and why, and which will soon fail."
        )
        .tags(["bearerwatch", "salesforce"])
        .time("now-24h", "now")
        .refresh("1m")
        .readonly()
        .link(
            dashboard.DashboardLink("Status page")
            .type(DashboardLinkType.LINK)
            .url("$pages")
            .icon("external link")
            .target_blank(True)
        )
    )
    variables(board)
    for part in (fleet, time_left, exchanges, daemon):
        part(board)
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(built(), encoding="utf-8")
