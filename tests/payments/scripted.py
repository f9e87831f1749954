"""Providers of payments on the loopback, scripted: they keep what they are asked for and say what a test wants.

They speak the wire of the real ones as far as we use it, and sign as those do.
"""

import hashlib
import hmac
import itertools
import json
import threading
import time
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

SECRET = "whsec_tests_only_0123456789abcdef"
KEY = "sk_test_tests_only_0123456789"
EPAY_PID, EPAY_KEY = "1001", "tests-only-epay-key-0123456789ab"

_numbers = itertools.count(1)


class Scripted(ABC):
    """A server on a port of its own. `asked` lists the requests: method, path, parameters, headers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        self.failing = 0  # the status that every request gets instead of its answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._serve("GET", urlsplit(self.path).query)

            def do_POST(self) -> None:
                self._serve("POST", self.rfile.read(int(self.headers["Content-Length"] or 0)).decode())

            def _serve(self, method: str, form: str) -> None:
                parameters = {name: values[-1] for name, values in parse_qs(form, keep_blank_values=True).items()}
                path = urlsplit(self.path).path
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((method, path, parameters, headers))
                if outer.failing:
                    status, found = outer.failing, {"error": {"type": "api_error", "message": "scripted"}}
                else:
                    status, found = outer.answer(method, path, parameters, headers)
                content = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @abstractmethod
    def answer(
        self, method: str, path: str, parameters: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """The status and the body for a request."""

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class ScriptedStripe(Scripted):
    """Sessions and refunds. `pay` makes a session paid, as its payer would."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.refunds: list[dict[str, Any]] = []
        self._by_key: dict[str, dict[str, Any]] = {}

    def answer(
        self, method: str, path: str, parameters: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        if not path.startswith("/v1/"):  # the payer's page, and its icon
            return 200, {}
        if headers.get("authorization") != f"Bearer {KEY}":
            return 401, {"error": {"type": "authentication_error", "message": "no"}}
        if (method, path) == ("POST", "/v1/checkout/sessions"):
            return 200, self._by_key.setdefault(headers["idempotency-key"], self._session(parameters))
        if method == "GET" and path.startswith("/v1/checkout/sessions/"):
            return 200, self.sessions[path.rsplit("/", 1)[1]]
        if (method, path) == ("GET", "/v1/refunds"):
            of = [refund for refund in self.refunds if refund["payment_intent"] == parameters["payment_intent"]]
            return 200, {"object": "list", "data": of, "has_more": False, "url": "/v1/refunds"}
        if (method, path) == ("POST", "/v1/refunds"):
            key = headers["idempotency-key"]
            if key not in self._by_key:
                self._by_key[key] = self.refund(parameters["payment_intent"], int(parameters["amount"]))
            return 200, self._by_key[key]
        return 404, {"error": {"type": "invalid_request_error", "message": path}}

    def _session(self, asked: dict[str, str]) -> dict[str, Any]:
        number = next(_numbers)
        made = session(
            number,
            order=asked["client_reference_id"],
            due=int(asked["line_items[0][price_data][unit_amount]"]),
            currency=asked["line_items[0][price_data][currency]"],
        )
        made |= {"status": "open", "payment_status": "unpaid", "payment_intent": None}
        made["url"] = f"{self.url}/pay/{made['id']}"
        self.sessions[made["id"]] = made
        return made

    def pay(self, checkout: str) -> dict[str, Any]:
        self.sessions[checkout] |= {
            "status": "complete",
            "payment_status": "paid",
            "payment_intent": f"pi_{checkout[3:]}",
        }
        return self.sessions[checkout]

    def refund(self, intent: str, amount: int, *, currency: str = "usd", status: str = "succeeded") -> dict[str, Any]:
        made = refund(intent, amount, currency=currency, status=status)
        self.refunds.append(made)
        return made


class ScriptedEPay(Scripted):
    """Orders by their number; `paid` has what the gateway says of one."""

    def __init__(self) -> None:
        super().__init__()
        self.paid: dict[str, dict[str, Any]] = {}

    def answer(
        self, method: str, path: str, parameters: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        if path != "/api.php" or parameters.get("key") != EPAY_KEY or parameters.get("pid") != EPAY_PID:
            return 200, {"code": -3, "msg": "no"}
        found = self.paid.get(parameters["out_trade_no"])
        if found is None:
            return 200, {"code": 1, "status": 0, "out_trade_no": parameters["out_trade_no"], "pid": int(EPAY_PID)}
        return 200, {"code": 1, "status": 1, "pid": int(EPAY_PID), **found}


# ---- what Stripe says -----------------------------------------------------------------------------------------------


def session(number: int, *, order: str, due: int, currency: str = "usd", **fields: Any) -> dict[str, Any]:
    """A Checkout Session that is paid, unless `fields` say otherwise."""
    return {
        "id": f"cs_test_{number:08d}",
        "object": "checkout.session",
        "mode": "payment",
        "client_reference_id": order,
        "metadata": {"payment": order},
        "amount_total": due,
        "currency": currency,
        "status": "complete",
        "payment_status": "paid",
        "payment_intent": f"pi_test_{number:08d}",
        **fields,
    }


def refund(intent: str, amount: int, *, currency: str = "usd", status: str = "succeeded") -> dict[str, Any]:
    return {
        "id": f"re_{next(_numbers):08d}",
        "object": "refund",
        "amount": amount,
        "currency": currency,
        "payment_intent": intent,
        "status": status,
    }


def dispute(intent: str, amount: int, *, currency: str = "usd", status: str = "needs_response") -> dict[str, Any]:
    return {
        "id": f"dp_{next(_numbers):08d}",
        "object": "dispute",
        "amount": amount,
        "currency": currency,
        "payment_intent": intent,
        "status": status,
    }


def event(kind: str, content: dict[str, Any], *, name: str = "", livemode: bool = False) -> dict[str, Any]:
    return {
        "id": name or f"evt_{next(_numbers):08d}",
        "object": "event",
        "type": kind,
        "livemode": livemode,
        "created": int(time.time()),
        "data": {"object": content},
    }


def signature(body: bytes, *, secret: str = SECRET, at: float | None = None) -> str:
    """The value of `Stripe-Signature`, made here and not by the library that checks it."""
    moment = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def signed(said: dict[str, Any], *, secret: str = SECRET, at: float | None = None) -> tuple[bytes, dict[str, str]]:
    """A delivery: body and headers."""
    body = json.dumps(said).encode()
    return body, {"Stripe-Signature": signature(body, secret=secret, at=at), "Content-Type": "application/json"}


# ---- what EPay says -------------------------------------------------------------------------------------------------


def notification(order: str, money: str, /, *, key: str = EPAY_KEY, **fields: str) -> dict[str, str]:
    """The parameters of a notification, signed as the scheme has it: sorted, what is empty left out, the key behind."""
    number = next(_numbers)
    said = {
        "pid": EPAY_PID,
        "trade_no": f"2026112100{number:08d}",
        "out_trade_no": order,
        "type": "alipay",
        "name": "Credit",
        "money": money,
        "trade_status": "TRADE_SUCCESS",
        **fields,
    }
    text = "&".join(f"{name}={said[name]}" for name in sorted(said) if said[name])
    return {**said, "sign": hashlib.md5((text + key).encode()).hexdigest(), "sign_type": "MD5"}


def written(parameters: dict[str, str]) -> str:
    return urlencode(parameters)
