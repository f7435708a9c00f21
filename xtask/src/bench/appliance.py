"""Measures tenantd from inside the test machine: one verb per call, one JSON document on standard output.

It measures and checks that what it measured worked; it judges nothing.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

IMAGE = "localhost/fake-agent:1"
AGENT = ("127.0.0.1", 8080)
# Where the bare container's agent listens: on the host's loopback, beside nobody.
BARE = ("127.0.0.1", 18080)
GET = b"GET /healthz HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n"
UPGRADE = b"GET /echo HTTP/1.1\r\nhost: agent\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
MESSAGE = b"x" * 64


def run(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)} failed with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def processor_seconds():
    """Of everything in this machine, whatever else its host does."""
    return int(Path("/sys/fs/cgroup/cpu.stat").read_text().split()[1]) / 1e6


class Timed:
    def __enter__(self):
        self.cpu, self.begin = processor_seconds(), time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.begin
        self.cpu = processor_seconds() - self.cpu

    def result(self):
        return {"seconds": self.seconds, "cpu": self.cpu}


def connect(address):
    kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection = socket.socket(kind, socket.SOCK_STREAM)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def get(address):
    """One request on a connection of its own; whether the answer is good."""
    with connect(address) as connection:
        connection.sendall(GET)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    return answer.startswith(b"HTTP/1.1 200 ")


def door(tenant):
    return f"/run/tenantd/ingress/{tenant}.sock"


def podman(name):
    """A bare `podman run` until its agent is healthy: no namespace to make, no limits, no state."""
    argv = ["podman", "run", "--detach", "--rm", "--name", name, "--network=host"]
    with Timed() as timed:
        run(*argv, "--env", "FAKE_AGENT_LISTEN=%s:%d" % BARE, IMAGE)
        while True:
            try:
                if get(BARE):
                    break
            except OSError:
                pass
            time.sleep(0.001)
    run("podman", "rm", "--force", "--time=0", name)
    return timed.result()


def apply(directory, keep=False):
    """Every spec of a directory at once, from the command to its end; then each agent must answer at its door."""
    with Timed() as timed:
        plans = json.loads(run("tenantd", "apply", "--json", directory))
    tenants = [plan["tenant"] for plan in plans]
    for tenant in tenants:
        if not get(door(tenant)):
            sys.exit(f"{tenant} was applied and does not answer")
    if not keep:
        run("tenantd", "remove", "--purge", "--yes", *tenants)
    return timed.result()


def storm(directory):
    """As `apply`, kept, with `tenantd list` asked again and again meanwhile."""
    ended, asked = threading.Event(), []

    def ask():
        while not ended.is_set():
            begin = time.monotonic()
            run("tenantd", "list")
            asked.append(time.monotonic() - begin)
            ended.wait(0.5)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        result = apply(directory, keep=True)
    finally:
        ended.set()
        asking.join()
    return result | {"list": asked}


def repeat(runs, *argv):
    results = []
    for _ in range(int(runs)):
        with Timed() as timed:
            run(*argv)
        results.append(timed.result())
    return results


def fields(path):
    lines = Path(path).read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def switches(pid):
    """How often each thread has given up the processor to wait."""
    counts = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = fields(task / "status")
        counts[f"{status['Name']}-{task.name}"] = int(status["voluntary_ctxt_switches"])
    return counts


def idle(seconds):
    """The daemon at rest. A second counts as awake when any thread has waited anew in it."""
    # What doors do when they leave are events, and those are allowed to wake the daemon.
    while run("systemctl", "list-units", "--plain", "--no-legend", "tenantd-ingress@*.service"):
        time.sleep(1)
    pid = run("systemctl", "show", "--value", "--property=MainPID", "tenantd").strip()
    begin = last = switches(pid)
    awake = 0
    for _ in range(int(seconds)):
        time.sleep(1)
        now = switches(pid)
        awake += now != last
        last = now
    woken = {task: count - begin.get(task, 0) for task, count in last.items()}
    status = fields(f"/proc/{pid}/status")
    memory = {name: int(status[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "RssFile")}
    return {
        "awake": awake,
        "switches": {task: count for task, count in woken.items() if count},
        "memory": memory,
        "running": len(run("podman", "ps", "--quiet").split()),
    }


def latency(where, runs):
    """Microseconds of one request on a new connection, and of one message there and back on an open one."""
    address = AGENT if where == "agent" else where if where.startswith("/") else door(where)
    fresh, open_ = [], []
    for _ in range(int(runs)):
        begin = time.perf_counter_ns()
        good = get(address)
        fresh.append((time.perf_counter_ns() - begin) / 1000)
        if not good:
            sys.exit(f"{where} gave no good answer")
    with connect(address) as connection:
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(UPGRADE)
        if b"101" not in connection.recv(4096):
            sys.exit(f"{where} does not echo")
        for _ in range(int(runs)):
            begin = time.perf_counter_ns()
            connection.sendall(MESSAGE)
            rest = len(MESSAGE)
            while rest:
                rest -= len(connection.recv(rest))
            open_.append((time.perf_counter_ns() - begin) / 1000)
    return {"new": fresh, "open": open_}


def main(*verbs):
    verb = {function.__name__: function for function in verbs}[sys.argv[1]]
    json.dump(verb(*sys.argv[2:]), sys.stdout)


if __name__ == "__main__":
    main(podman, apply, storm, repeat, idle, latency)
