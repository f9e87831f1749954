"""Who may see which page. Every route is declared in `portal.urls` with one of these; a test walks all of them.

A member's view is given the team that it may look at, so that none can forget to ask. Routes of other packages
guard themselves; `ELSEWHERE` states what is expected of them, and the test holds them to it.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, path, re_path
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from portal import services
from portal.models import Team


class Access(StrEnum):
    PUBLIC = "public"
    MEMBER = "member"
    API = "api"  # a member's session, or a management key; the others get 401 or 403 and no page
    STAFF = "staff"


PublicView = Callable[..., HttpResponseBase]
MemberView = Callable[..., HttpResponseBase]


def public(route: str, view: PublicView, name: str) -> URLPattern:
    """A page for everyone."""

    @wraps(view)
    def open_view(request: HttpRequest, **parts: Any) -> HttpResponseBase:
        return view(request, **parts)

    return _declared(route, open_view, name, Access.PUBLIC)


def member(route: str, view: MemberView, name: str) -> URLPattern:
    """A page for whoever has signed in: `view(request, team, …)`, the others are asked to sign in."""

    @wraps(view)
    def guarded(request: HttpRequest, **parts: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _asked_to_sign_in(request)
        team: Team = services.current_team(request)
        return view(request, team, **parts)

    return _declared(route, guarded, name, Access.MEMBER)


def _asked_to_sign_in(request: HttpRequest) -> HttpResponseBase:
    """To the sign-in page, and from there to the page that was asked for. Whoever has sent a form, as after the session
    has ended, is told that it did nothing, and led back to the page it stood on."""
    if request.method != "POST":
        return redirect_to_login(request.get_full_path())
    messages.warning(request, _("You were signed out, so nothing was changed. Sign in, and send the form again."))
    return redirect_to_login(_page_of(request) or "/")


def _page_of(request: HttpRequest) -> str:
    """The page of ours that the request says it comes from; "" where it says none."""
    try:
        page = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return ""
    path = urlunsplit(("", "", page.path, page.query, ""))
    ours = page.netloc == request.get_host() and url_has_allowed_host_and_scheme(path, allowed_hosts=None)
    return path if ours else ""


def api(route: str, view: Callable[..., HttpResponseBase], name: str, access: Access = Access.API) -> URLPattern:
    """An endpoint of the management API, which guards itself (`portal.api.access.View`)."""
    return _declared(route, view, name, access)


def api_otherwise(view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
    """What answers whatever else is asked of the management API, in its own form."""
    view.access = Access.API  # type: ignore[attr-defined]
    return re_path(r"^[\s\S]*$", view, name=name)


def _declared(route: str, view: Callable[..., HttpResponseBase], name: str, access: Access) -> URLPattern:
    view.access = access  # type: ignore[attr-defined]
    return path(route, view, name=name)


# Routes whose views are not ours, by name; all of the `admin` namespace is for staff.
ELSEWHERE = {
    "set_language": Access.PUBLIC,
    "spec": Access.PUBLIC,
    "openapi": Access.PUBLIC,
    "account_login": Access.PUBLIC,
    "account_logout": Access.PUBLIC,
    "account_inactive": Access.PUBLIC,
    "account_signup": Access.PUBLIC,
    "account_email_verification_sent": Access.PUBLIC,
    "account_confirm_email": Access.PUBLIC,
    "account_reset_password": Access.PUBLIC,
    "account_reset_password_done": Access.PUBLIC,
    "account_reset_password_from_key": Access.PUBLIC,
    "account_reset_password_from_key_done": Access.PUBLIC,
    "account_confirm_login_code": Access.PUBLIC,
    "mfa_authenticate": Access.PUBLIC,
    "account_reauthenticate": Access.MEMBER,
    "account_email": Access.MEMBER,
    "account_change_password": Access.MEMBER,
    "account_set_password": Access.MEMBER,
    "mfa_index": Access.MEMBER,
    "mfa_reauthenticate": Access.MEMBER,
    "mfa_activate_totp": Access.MEMBER,
    "mfa_deactivate_totp": Access.MEMBER,
    "mfa_view_recovery_codes": Access.MEMBER,
    "mfa_generate_recovery_codes": Access.MEMBER,
    "mfa_download_recovery_codes": Access.MEMBER,
}
