"""A PostgreSQL of the benchmark's own."""

import shutil
import subprocess
from pathlib import Path

from tests.bench import processes


class Postgres:
    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process, self._port = process, port
        self.pid = process.pid

    @classmethod
    def start(cls, folder: Path) -> "Postgres | None":
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            return None
        binaries, data = found[-1], folder / "pg"
        data.mkdir()
        shutil.chown(folder, "postgres")
        shutil.chown(data, "postgres")
        folder.chmod(0o755)
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "pisces", "-A", "trust", "--no-locale", "-E", "UTF8"],
            user="postgres",
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        port = processes.free_port()
        process = processes.start(
            [
                str(binaries / "postgres"),
                "-D",
                str(data),
                "-p",
                str(port),
                "-c",
                f"unix_socket_directories={data}",
                "-c",
                "log_min_messages=error",
                "-c",
                "max_connections=100",
            ],
            port=port,
            user="postgres",
            cwd=folder,
        )
        return cls(process, port)

    def create(self, name: str) -> str:
        import psycopg

        with psycopg.connect(f"postgresql://pisces@127.0.0.1:{self._port}/postgres", autocommit=True) as c:
            c.execute(f"CREATE DATABASE {name}")
        return f"postgres://pisces@127.0.0.1:{self._port}/{name}"

    def stop(self) -> None:
        processes.stop(self._process)
