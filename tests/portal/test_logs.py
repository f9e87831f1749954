"""Logs name what failed and never what was secret."""

import json
import logging
import sys

from keys import tokens


def logged(record: logging.LogRecord) -> str:
    (handler,) = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    return handler.format(record)


def test_a_logged_traceback_holds_no_variable_of_its_frames() -> None:
    secret = tokens.new()
    try:
        raise ValueError(f"rendering failed after {len(secret)} characters")
    except ValueError:
        failure = sys.exc_info()
    line = logged(logging.LogRecord("django.request", logging.ERROR, __file__, 1, "failed", (), failure))
    assert json.loads(line)["exception"][0]["exc_value"] == "rendering failed after 47 characters"
    assert secret not in line


def test_what_an_exception_says_is_masked_too() -> None:
    secret = tokens.new()
    try:
        try:
            raise ValueError(f"bad host evil{secret}.example")
        except ValueError as error:
            raise RuntimeError("asked https://provider.example/v1?key=AIza-of-the-operator&alt=sse") from error
    except RuntimeError:
        failure = sys.exc_info()
    line = logged(logging.LogRecord("relay", logging.ERROR, __file__, 1, "failed", (), failure))
    said = [one["exc_value"] for one in json.loads(line)["exception"]]
    assert said == ["asked https://provider.example/v1?key=***&alt=sse", "bad host evilpisces-***.example"]
    assert secret not in line
