"""What stands in deploy/ fits what is served."""

import re
from pathlib import Path

import pytest

from relay.urls import ROUTES, VERSIONS, belongs

NGINX = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text()


def relayed(path: str) -> bool:
    """Whether nginx takes the path for the relay's, whose answers it waits for as long as they take."""
    (pattern,) = re.findall(r"^    location ~ (\S+) \{", NGINX, re.MULTILINE)
    return re.search(pattern, path) is not None


@pytest.mark.parametrize("route", sorted({route.path for route in ROUTES}))
def test_nginx_knows_every_path_of_the_relay_with_and_without_a_version(route: str) -> None:
    bare = re.sub(r"\{\w+\}", "x", route.removeprefix("/v1beta").removeprefix("/v1"))
    for path in (bare, *(version + bare for version in VERSIONS)):
        assert belongs(path)
        assert relayed(path)


@pytest.mark.parametrize("path", ["/", "/api/v1/keys", "/docs/", "/static/x.css", "/v1x", "/chatter"])
def test_nginx_leaves_all_else_to_the_portal(path: str) -> None:
    assert not belongs(path)
    assert not relayed(path)
