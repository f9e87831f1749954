"""Who calls the management API: a management key of a team, or a member's session; and what both are told of errors."""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound, ParseError, PermissionDenied
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from keys import services as keys
from portal import addresses, services
from portal.models import Team, User


class Caller:
    """A program with a management key. Django's views ask users these questions."""

    is_authenticated = True
    is_active = True
    is_anonymous = False
    is_staff = False

    def __init__(self, key: int, team: Team, name: str) -> None:
        self.pk = None
        self.key, self.team, self.name = key, team, name

    def __str__(self) -> str:
        return f"key {self.name}"


class ManagementKey(BaseAuthentication):
    """`Authorization: Bearer pisces-…` with a key of the type `management`."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        scheme, _space, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            row = keys.management_key(token.strip(), address=addresses.of(request))
        except keys.InvalidKey as error:
            raise AuthenticationFailed(_KEY_MESSAGES[error.why]) from error
        return Caller(row.pk, row.team, row.name), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="pisces"'


_KEY_MESSAGES = {
    "unknown": _("The key is not valid."),
    "paused": _("The key is paused."),
    "revoked": _("The key was revoked."),
    "expired": _("The key has expired."),
    "address": _("This key may not be used from this address."),
    "type": _("Only a management key calls this API."),
}


class ManagementKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "portal.api.access.ManagementKey"
    name = "managementKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A management key, pisces-…"}


class Member(BasePermission):
    """Whoever belongs to a team: with a management key of it, or signed in."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.user.is_authenticated


class Person(BasePermission):
    """Whoever is signed in. What a person has chosen for themselves is no business of a team's programs."""

    message = _("This belongs to a person: it is called from a session, and not with a key.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, User)


class Json(JSONParser):
    """JSON; what is nested deeper than Python reads is refused like all else that is none."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError(_("The JSON is nested too deeply.")) from error


class OneForm(BaseContentNegotiation):
    """Each endpoint answers in one form, whatever the caller would rather have."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class PerTeam(SimpleRateThrottle):
    """So that a script that runs away does not keep the database from the others."""

    scope = "management"
    rate = "600/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        return f"management:{team_of(request).pk}"


def team_of(request: Request) -> Team:
    """The team that is looked at: the key's, or the one of whoever is signed in."""
    caller: Any = request.user
    if isinstance(caller, Caller):
        return caller.team
    assert isinstance(caller, User)
    http: HttpRequest = request._request
    return services.current_team(http)


# What every endpoint of the API is. (A docstring would stand in the document, as the description of each.)
class View(APIView):
    for_people = False
    authentication_classes = (ManagementKey, SessionAuthentication)
    permission_classes: tuple[type[BasePermission], ...] = (Member,)
    throttle_classes = (PerTeam,)
    parser_classes = (Json,)
    content_negotiation_class = OneForm

    @property
    def team(self) -> Team:
        return team_of(self.request)

    @property
    def actor(self) -> str:
        return str(self.request.user)

    @property
    def person(self) -> User:
        """Who is signed in; of a program the one who answers for its team."""
        caller: Any = self.request.user
        found = caller if isinstance(caller, User) else services.owner_of(caller.team)
        if found is None:
            raise PermissionDenied(_("The team of this key has no owner."))
        return found


class PersonView(View):
    """This belongs to a person: it is called from a session, and not with a key."""

    for_people = True
    permission_classes = (Member, Person)


class Nowhere(View):
    """Every address that is none: 404 in the API's own form, to whoever may call it."""

    schema = None

    def initial(self, request: Request, *parts: Any, **named: Any) -> None:
        super().initial(request, *parts, **named)
        raise NotFound
