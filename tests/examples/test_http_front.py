"""The example's HTTP front: a real uvicorn in its own process, and httpx clients."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from example_world import run, set_pause, stored

import virtualization
from lockcore.engine import Engine
from services import require_module
from support import DEADLINE, Background, eventually

if TYPE_CHECKING:
    import httpx

EXAMPLES = Path(virtualization.__file__).parent.parent
ADD_VM = {"vm": "new", "template": "fedora", "domain": "data2"}


class Server:
    """A server process on the data centre in a directory."""

    def __init__(self, directory: Path, *options: str) -> None:
        path = filter(None, (str(EXAMPLES), os.environ.get("PYTHONPATH")))
        self._log = directory.with_suffix(".log")
        command = ["-W", "error", "-m", "virtualization", "serve", str(directory), "--port", "0"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, *options],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        with self.process.stdout as output:
            url = output.readline().strip()
        assert url, self.log()
        client = importlib.import_module("httpx").Client
        self.client: httpx.Client = client(base_url=url, timeout=DEADLINE, trust_env=False)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def post(self, name: str, parameters: Any, query: str = "", **headers: str) -> httpx.Response:
        return self.client.post(f"/commands/{name}{query}", json=parameters, headers=headers)

    def get(self, path: str, **headers: str) -> Any:
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def locks(self) -> list[tuple[Any, ...]]:
        rows = self.get("/locks")["locks"]
        return [(row["key"], row["mode"], row["owner"]) for row in rows]

    def end(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal and waits for the end."""
        self.client.close()
        self.process.send_signal(number)
        self.process.wait(DEADLINE)


@pytest.fixture(scope="module", autouse=True)
def modules() -> None:
    """What the front and its clients need."""
    for module in ("httpx", "starlette", "uvicorn"):
        require_module(module)


@pytest.fixture(scope="module")
def idle_server(tmp_path_factory: pytest.TempPathFactory, modules: None) -> Iterator[Server]:
    """A server where nothing is done, for several tests; on the data centre that it builds."""
    server = Server(tmp_path_factory.mktemp("idle") / "data-centre")
    yield server
    server.end(signal.SIGKILL)


@pytest.fixture
def new_server(data_centre: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers on the data centre, and ends them."""
    servers: list[Server] = []

    def start(*options: str) -> Server:
        servers.append(Server(data_centre, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.end(signal.SIGKILL)


@pytest.fixture
def server(new_server: Callable[..., Server]) -> Server:
    return new_server()


def test_command_is_accepted_and_comes_to_its_end(server: Server) -> None:
    answer = server.post("AddVmFromTemplate", ADD_VM, "?wait=9")
    assert (answer.status_code, answer.json()["state"]) == (202, "succeeded")
    assert stored("vms", "new")["domain"] == "data2"
    assert server.get(answer.headers["Location"])["state"] == "succeeded"


def test_one_of_many_concurrent_requests_is_accepted(server: Server) -> None:
    set_pause(3600)
    count = 8
    barrier = threading.Barrier(count)

    def export(_: int) -> httpx.Response:
        barrier.wait()
        return server.post("ExportVm", {"vm": "web"})

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(export, range(count)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * (count - 1)
    (accepted,) = (answer.json() for answer in answers if answer.status_code == 202)
    for refusal in (answer.json() for answer in answers if answer.status_code == 409):
        assert refusal["state"] == "refused"
        assert refusal["sentences"] == ["Cannot export VM. VM web is being exported."]
        assert [row["key"] for row in refusal["blockers"]] == [["REMOTE_VM", "web"], ["VM", "web"]]
        for row in refusal["blockers"]:
            assert (row["mode"], row["owner"]) == ("exclusive", accepted["command_id"])
            assert row["message"] == {
                "code": "VM_IS_BEING_EXPORTED",
                "variables": {"VmName": "web"},
            }
            assert row["held_for"] >= 0
    set_pause(0)
    assert server.get(f"/commands/{accepted['command_id']}?wait=9")["state"] == "succeeded"


def test_many_requests_for_different_vms_are_accepted_together(server: Server) -> None:
    set_pause(3600)

    def add(number: int) -> httpx.Response:
        return server.post("AddVmFromTemplate", {**ADD_VM, "vm": f"vm-{number}"})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(add, range(6)))
    assert [answer.status_code for answer in answers] == [202] * 6
    template = [owner for key, _, owner in server.locks() if key == ["TEMPLATE", "fedora"]]
    assert sorted(template) == sorted(answer.json()["command_id"] for answer in answers)
    set_pause(0)
    for answer in answers:
        assert server.get(f"{answer.headers['Location']}?wait=9")["state"] == "succeeded"


def test_progress_is_seen(server: Server) -> None:
    set_pause(3600)
    location = server.post("AddVmFromTemplate", ADD_VM).headers["Location"]

    def status() -> Any:
        found = server.get(location)
        return found if found["progress"] else None

    found = eventually(status)
    assert (found["state"], 0 < found["progress"] < 1) == ("running", True)
    assert [task["detail"] for task in found["tasks"]] == ["copying fedora"]


def test_command_waits_for_its_locks_while_others_are_served(
    server: Server, background: Callable[..., Background]
) -> None:
    set_pause(3600)
    activation = server.post("ActivateStorageDomain", {"pool": "gold", "domain": "data3"})
    parameters = {"pool": "gold", "new_master": "data2"}
    assert server.post("ReconstructMaster", parameters, "?timeout=0").status_code == 409
    late = background(server.post, "ReconstructMaster", parameters, "?timeout=9&wait=9")

    def waiters() -> list[str]:
        rows = server.get("/locks")["locks"]
        return [owner for row in rows for owner in row["waiters"] if row["key"][0] == "POOL"]

    eventually(waiters)
    set_pause(0)
    assert server.get(f"{activation.headers['Location']}?wait=9")["state"] == "succeeded"
    assert late.result().json()["state"] == "succeeded"


def test_correlation_id_goes_from_the_header_to_the_log_and_back(idle_server: Server) -> None:
    headers = {"X-Correlation-ID": "request-4711"}
    answer = idle_server.post("StopVm", {"vm": "no"}, **headers)
    assert (answer.status_code, answer.headers["X-Correlation-ID"]) == (409, "request-4711")
    assert answer.json()["correlation_id"] == "request-4711"
    assert idle_server.get(answer.headers["Location"])["correlation_id"] == "request-4711"
    lines = [line for line in idle_server.log().splitlines() if "[request-4711]" in line]
    assert any("lockcore.engine" in line and "refused: NO_SUCH_ENTITY" in line for line in lines)


def test_refusal_is_in_the_language_of_the_client(idle_server: Server) -> None:
    headers = {"Accept-Language": "de-AT,en;q=0.5"}
    answer = idle_server.post("StopVm", {"vm": "no"}, **headers)
    assert answer.json()["sentences"] == ["no gibt es nicht (vms)."]


@pytest.mark.parametrize(
    ("name", "query", "body", "status", "error"),
    [
        ("NoCommand", "", {}, 404, "no command NoCommand"),
        ("StopVm", "", {}, 422, "missing 1 required keyword-only argument: 'vm'"),
        ("StopVm", "", {"vm": "web", "host": "h1"}, 422, "unexpected keyword argument 'host'"),
        ("StopVm", "", {"vm": 7}, 422, "parameter vm must be str, not int"),
        ("StopVm", "", {"vm": "../web"}, 422, "parameter vm must be a name, not '../web'"),
        ("StopVm", "", ["web"], 422, "the body must be a JSON object of parameters"),
        ("StopVm", "?wait=long", {"vm": "web"}, 422, "wait must be a number of seconds"),
        ("StopVm", "?timeout=-1", {"vm": "web"}, 422, "timeout must be a number of seconds"),
    ],
)
def test_request_that_makes_no_sense_is_told_so(
    idle_server: Server, name: str, query: str, body: Any, status: int, error: str
) -> None:
    answer = idle_server.post(name, body, query)
    assert (answer.status_code, error in answer.json()["error"]) == (status, True), answer.text


def test_body_that_is_no_json_is_told_so(idle_server: Server) -> None:
    answer = idle_server.client.post("/commands/StopVm", content=b"vm=web")
    assert (answer.status_code, "no JSON" in answer.json()["error"]) == (422, True)


def test_unknown_command_id_is_not_found(idle_server: Server) -> None:
    answer = idle_server.client.get("/commands/no-such-id")
    assert (answer.status_code, answer.json()) == (404, {"error": "no command no-such-id"})


def test_killed_server_takes_its_commands_up_again(new_server: Callable[..., Server]) -> None:
    set_pause(3600)
    first = new_server()
    accepted = first.post("AddVmFromTemplate", ADD_VM, **{"X-Correlation-ID": "mine"}).json()
    before = first.locks()
    assert len(before) == 6
    first.end(signal.SIGKILL)

    second = new_server()
    assert second.locks() == before
    found = second.get(f"/commands/{accepted['command_id']}")
    assert (found["state"], found["correlation_id"]) == ("running", "mine")
    assert second.post("RemoveTemplate", {"template": "fedora"}).status_code == 409
    set_pause(0)
    assert second.get(f"/commands/{accepted['command_id']}?wait=9")["state"] == "succeeded"
    assert second.locks() == []
    assert stored("vms", "new")["template"] == "fedora"


def test_terminated_server_leaves_commands_to_the_next(new_server: Callable[..., Server]) -> None:
    set_pause(3600)
    first = new_server()
    accepted = first.post("AddVmFromTemplate", ADD_VM).json()
    first.end()
    assert "Application shutdown complete" in first.log()
    second = new_server()
    assert second.get(f"/commands/{accepted['command_id']}")["state"] == "running"
    assert f"recovery: resumed {accepted['command_id']}" in second.log()


def test_terminated_server_that_drains_waits_for_commands(
    new_server: Callable[..., Server], new_engine: Callable[[], Engine]
) -> None:
    set_pause(3600)
    server = new_server("--drain", "30")
    accepted = server.post("AddVmFromTemplate", ADD_VM).json()
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: "Waiting for application shutdown" in server.log())
    assert server.process.poll() is None
    set_pause(0)
    server.process.wait(DEADLINE)
    engine = new_engine()
    assert engine.wait(accepted["command_id"], timeout=0).state == "succeeded"
    assert str(engine.recovery) == "nothing to recover"
    assert run(engine, "RemoveTemplate", {"template": "fedora"}).state == "running"


def test_client_that_waits_when_the_server_goes_down_is_told_so(
    new_server: Callable[..., Server], background: Callable[..., Background]
) -> None:
    set_pause(3600)
    server = new_server("--grace", "1")
    server.post("ActivateStorageDomain", {"pool": "gold", "domain": "data3"})
    parameters = {"pool": "gold", "new_master": "data2"}
    waiting = background(server.post, "ReconstructMaster", parameters)
    eventually(lambda: any(row["waiters"] for row in server.get("/locks")["locks"]))
    server.process.send_signal(signal.SIGTERM)
    answer = waiting.result()
    assert (answer.status_code, answer.json()) == (503, {"error": "the server is going down"})
    server.process.wait(DEADLINE)
    assert "Traceback" not in server.log()


def test_second_server_on_the_same_data_centre_does_not_start(
    server: Server, data_centre: Path
) -> None:
    second = Server(data_centre)
    assert second.process.wait(DEADLINE) != 0
    assert "StoreError" in second.log()
    second.client.close()
    assert server.get("/locks") == {"locks": []}
