"""The settings of an org, and invalid ones."""

from typing import Any

import pytest

from monitor.simulator.settings import OrgSettings, Refresh, SettingsError
from tests.simulator.asking import Pair

DEFAULTS = {
    "certificate": None,
    "org_type": "production",
    "accepted_audiences": "any",
    "permitted_users": "admin_approved",
    "permission_set_assigned": True,
    "left_out": "invalid_app_access",
    "user_approved": True,
    "refresh_token_policy": "infinite",
    "refresh_token_validity_seconds": None,
    "decays_when_admin_approved": True,
    "propagation_seconds": 0,
    "ip_allowed": True,
    "api_enabled": True,
    "api_access_control": False,
    "user_active": True,
    "org_active": True,
    "app_present": True,
    "app_blocked": False,
    "flow_enabled": True,
    "jwt_access_tokens": False,
    "scopes": ["api", "refresh_token"],
    "expired_certificate_refused": False,
    "session_seconds": 7200,
    "login_rate_per_hour": 3600,
    "maintenance": False,
    "fault": None,
}


def test_the_defaults_are_what_users_were_promised() -> None:
    settings = OrgSettings().as_json()

    assert {name: settings[name] for name in DEFAULTS} == DEFAULTS


def test_settings_survive_the_round_trip_through_json(pair: Pair) -> None:
    settings = OrgSettings().changed(
        {"certificate": pair.certificate, "scopes": ["id"], "fault": "slow", "login_rate_per_hour": 7}
    )

    assert OrgSettings().changed(settings.as_json()) == settings


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({"falt": None}, ["falt: there is no such setting, did you mean fault?"]),
        ({"zzz": 1}, ["zzz: there is no such setting"]),
        ({"user_active": 1}, ["user_active: Input should be a valid boolean"]),
        ({"user_active": "false"}, ["user_active: Input should be a valid boolean"]),
        ({"username": ""}, ["username: String should have at least 1 character"]),
        ({"consumer_key": None}, ["consumer_key: Input should be a valid string"]),
        ({"scopes": "api"}, ["scopes: Input should be a valid tuple"]),
        ({"scopes": [1]}, ["scopes.0: Input should be a valid string"]),
        ({"org_type": "scratch"}, ["org_type: Input should be 'production', 'sandbox' or 'developer'"]),
        ({"org_type": ["sandbox"]}, ["org_type: Input should be 'production', 'sandbox' or 'developer'"]),
        ({"session_seconds": -1}, ["session_seconds: Input should be greater than or equal to 0"]),
        ({"session_seconds": float("nan")}, ["session_seconds: Input should be a finite number"]),
        ({"session_seconds": True}, ["session_seconds: Input should be a valid number"]),
        ({"login_rate_per_hour": 1.5}, ["login_rate_per_hour: Input should be a valid integer"]),
        (
            {"clock_offset_seconds": 1e12},
            ["clock_offset_seconds: Input should be less than or equal to 3153600000"],
        ),
        ({"certificate": "nonsense"}, ["certificate: must be a PEM certificate or null"]),
        ({"certificate": 7}, ["certificate: Input should be a valid string"]),
        ({"certificate": "x" * 4097}, ["certificate: must be at most 4096 bytes"]),
        (
            {"refresh_token_policy": "lifetime"},
            ["refresh_token_validity_seconds must be given with the policy lifetime"],
        ),
        (
            {"falt": 1, "user_active": 1},
            [
                "falt: there is no such setting, did you mean fault?",
                "user_active: Input should be a valid boolean",
            ],
        ),
    ],
)
def test_all_invalid_settings_are_reported(values: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        OrgSettings().changed(values)

    assert sorted(caught.value.problems) == problems


@pytest.mark.parametrize(
    "values", [{"username_suffix": 7}, {"loses": "app"}, {"loses": ["user"]}, {"keeps": []}]
)
def test_an_invalid_refresh_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Refresh.read(values)
