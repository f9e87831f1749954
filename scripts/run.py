"""`make run`: from a fresh checkout to a gateway that answers, and until Ctrl-C. Standard library only.

Sets up what is missing, starts the server and the worker, prints how to use them, and ends both when it is told to or
when one of them ends by itself.
"""

import errno
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

import bootstrap
from bootstrap import ROOT, Failed

GRACE = 65  # seconds for calls that are running when the end comes; the server itself allows 60
START = 60  # seconds in which the server has to answer


class _Stop(Exception):
    """A signal asked for the end."""


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    os.umask(0o077)  # the database holds password hashes, the folder secrets: nobody else reads them
    began = time.monotonic()
    children: list[subprocess.Popen[bytes]] = []
    try:
        port = _port()
        environment = {**os.environ, "PORT": str(port), "PYTHONUNBUFFERED": "1"}
        environment.setdefault("LOG_JSON", "0" if sys.stderr.isatty() else "1")
        python = str(bootstrap.python())
        _secrets(Path(environment.get("VAR_DIR") or ROOT / "var"))
        demo = _prepare(python, environment)
        for command in ("serve", "worker"):
            children.append(_start(python, command, environment))
        _wait_until_healthy(port, children)
        _greet(port, demo, time.monotonic() - began)
        return _watch(children)
    except _Stop:
        return 0
    except Failed as failure:
        print(f"pisces: {failure}", file=sys.stderr)
        return 1
    finally:
        _end(children)


def _on_signal(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _port() -> int:
    """The port from the environment, which has to be free at HOST. Raises Failed."""
    text = os.environ.get("PORT") or "8000"
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise Failed(f"PORT={text} is no port.")
    host = os.environ.get("HOST") or "127.0.0.1"
    try:
        family, kind, _protocol, _name, address = socket.getaddrinfo(host, int(text), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES):
            raise Failed(f"Port {text} is not free ({error.strerror}). Try another: make run PORT=8001") from error
        raise Failed(f"HOST={host} is no address of this machine. Leave it out, for 127.0.0.1.") from error
    return int(text)


def _secrets(folder: Path) -> None:
    """The installation's own secrets, made once; readable by the owner only. Raises Failed."""
    try:
        _make_secrets(folder)
    except OSError as error:
        raise Failed(f"{folder} cannot be written ({error.strerror}). Make it writable, or set VAR_DIR.") from error


def _make_secrets(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pisces.env"
    if path.exists():
        return
    lines = [f"{name}={secrets.token_urlsafe(48)}" for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "KEY_PEPPER")]
    fresh = folder / f"pisces.env.{os.getpid()}"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join([*lines, "DEMO_PROVIDER=1"]) + "\n")
    try:
        os.link(fresh, path)  # fails where another start was quicker; its secrets count
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _prepare(python: str, environment: dict[str, str]) -> dict[str, str | None]:
    """Database, static files and demo data. The sign-in and the key, where this installation is a demo."""
    command = [python, str(ROOT / "manage.py"), "prepare", "--demo"]
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise Failed("The installation could not be prepared; the lines above say why.")
    lines = done.stdout.decode().splitlines()
    return json.loads(lines[-1]) if lines else {}


def _start(python: str, command: str, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """In a session of its own, so that a terminal's Ctrl-C reaches only this process, which ends it in order."""
    return subprocess.Popen(
        [python, str(ROOT / "manage.py"), command], env=environment, cwd=ROOT, start_new_session=True
    )


def _wait_until_healthy(port: int, children: list["subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + START
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        _check(children)
        try:
            with opener.open(f"http://{_host()}:{port}/healthz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise Failed(f"The server did not answer within {START} seconds.")


def _host() -> str:
    """As an address has it; the machine itself where the server listens everywhere."""
    host = os.environ.get("HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared with
    return f"[{host}]" if ":" in host else host


def _check(children: list["subprocess.Popen[bytes]"]) -> None:
    for child, name in zip(children, ("server", "worker"), strict=True):  # in the order of their start
        if child.poll() is not None:
            raise Failed(f"The {name} ended by itself (status {child.returncode}); its last lines say why.")


def _greet(port: int, demo: dict[str, str | None], seconds: float) -> None:
    base = (os.environ.get("BASE_URL") or f"http://{_host()}:{port}").rstrip("/")
    lines = ["", f"  Pisces is ready after {seconds:.1f} s. Ctrl-C stops it.", "", f"  Portal     {base}/"]
    if demo:
        password = demo["password"] or f"as you set it (manage.py changepassword {demo['email']})"
        lines += [f"  Admin      {demo['email']}", f"  Password   {password}", f"  API key    {demo['key']}", ""]
        lines += [
            "  Try it:",
            "",
            f"  curl {base}/v1/chat/completions \\",
            f"    -H 'Authorization: Bearer {demo['key']}' -H 'Content-Type: application/json' \\",
            """    -d '{"model": "demo-chat", "messages": [{"role": "user", "content": "Hello"}]}'""",
        ]
    print("\n".join([*lines, ""]), flush=True)


def _watch(children: list["subprocess.Popen[bytes]"]) -> int:
    while True:
        _check(children)
        time.sleep(0.5)


def _end(children: list["subprocess.Popen[bytes]"]) -> None:
    """Asks all to end, and waits; a second signal, or the end of the grace, kills."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + GRACE
    try:
        for child in children:
            child.wait(max(0.1, deadline - time.monotonic()))
    except (_Stop, subprocess.TimeoutExpired):
        for child in children:
            child.kill()
    for child in children:
        child.wait()


if __name__ == "__main__":
    sys.exit(main())
