"""Measures sleep, waking and the warm door from inside the test machine: one verb per call, one JSON document out.

It measures and checks that what it measured worked; it judges nothing.
"""

import json
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

from appliance import AGENT, UPGRADE, connect, door, latency, main, run

PATIENCE = 180


def wait(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"{what} did not come within {PATIENCE} s")
        time.sleep(0.05)


def unit(tenant):
    return f"tenant-{tenant}.service"


def group(tenant):
    escaped = tenant.replace("-", "\\x2d")
    service = Path(f"/sys/fs/cgroup/tenant.slice/tenant-{escaped}.slice/{unit(tenant)}")
    return next(service.glob("libpod-payload-*"))


def first_byte(address, path):
    """Milliseconds from the connect to the first byte of the answer, and the answer's status."""
    ask = f"GET {path} HTTP/1.1\r\nhost: agent\r\naccept: */*\r\nconnection: close\r\n\r\n".encode()
    begin = time.perf_counter_ns()
    with connect(address) as connection:
        connection.sendall(ask)
        connection.settimeout(PATIENCE)
        answer = connection.recv(4096)
        took = (time.perf_counter_ns() - begin) / 1e6
        while connection.recv(65536):
            pass
    return took, int(answer.split(b" ", 2)[1]) if answer else 0


def woken(tenant, path):
    took, status = first_byte(door(tenant), path)
    # Any answer of the agent's own is one; the door's own ones for agents that are not there are 502 to 504.
    if status == 0 or status in (502, 503, 504):
        sys.exit(f"{tenant} was asked for {path} in its sleep and answered {status}")
    return took


def frozen(tenant, path, runs):
    times = []
    for _ in range(int(runs)):
        run("tenantd", "sleep", tenant)
        times.append(woken(tenant, path))
    return times


def paged(path, *tenants):
    """All asleep until the sleep service has paged them out; what they keep, then milliseconds of each until awake."""
    before = memory(*tenants)
    swap = swap_used()
    for tenant in tenants:
        run("tenantd", "sleep", tenant)
    for tenant in tenants:
        wait(f"{tenant} paged out", lambda: is_paged_out(tenant))
    after, kept = memory(*tenants), swap_used() - swap
    return {
        "running": before,
        "asleep": after,
        "swap": kept,
        "first": [woken(tenant, path) for tenant in tenants],
    }


def is_paged_out(tenant):
    shown = json.loads(run("tenantd", "show", tenant, "--json"))
    return (shown.get("sleep") or {}).get("tier") == "paged-out"


def memory(*tenants):
    """MiB that each agent's processes are charged for."""
    return [int((group(tenant) / "memory.current").read_text()) / 2**20 for tenant in tenants]


def swap_used():
    """MiB of memory that compressed swap takes."""
    return sum(int(stat.read_text().split()[2]) for stat in Path("/sys/block").glob("zram*/mm_stat")) / 2**20


def stopped(tenant, path, runs):
    """Milliseconds until who comes to a stopped agent has its answer."""
    times = []
    for _ in range(int(runs)):
        wait(f"{tenant} stopped", lambda: is_down(tenant))
        times.append(woken(tenant, path))
    return times


def is_down(tenant):
    done = subprocess.run(["systemctl", "is-active", unit(tenant)], capture_output=True, text=True)
    doors = subprocess.run(
        ["systemctl", "is-active", f"tenantd-ingress@{tenant.replace('-', chr(92) + 'x2d')}.service"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() == "inactive" and doors.stdout.strip() == "inactive"


def started(tenant, port, path, runs):
    """Within its namespace: milliseconds from `systemctl start` until the agent answers there, without a door."""
    times = []
    for _ in range(int(runs)):
        run("systemctl", "stop", unit(tenant))
        begin = time.perf_counter_ns()
        run("systemctl", "start", "--no-block", unit(tenant))
        while True:
            try:
                _, status = first_byte(("127.0.0.1", int(port)), path)
                if 0 < status < 500:
                    break
            except OSError:
                pass
            time.sleep(0.001)
        times.append((time.perf_counter_ns() - begin) / 1e6)
    return times


def download(where, mebibytes):
    """MiB/s of one answer of so many."""
    address = AGENT if where == "agent" else where if where.startswith("/") else door(where)
    length = int(mebibytes) << 20
    buffer = bytearray(1 << 20)
    with connect(address) as connection:
        ask = f"GET /bytes?n={length} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n"
        connection.sendall(ask.encode())
        # What comes first was made by the agent, which is not what is measured.
        got = connection.recv_into(buffer)
        begin = time.perf_counter_ns()
        while more := connection.recv_into(buffer):
            got += more
        took = (time.perf_counter_ns() - begin) / 1e9
    if got < length:
        sys.exit(f"{where} gave {got} of {length} bytes")
    return length / 2**20 / took


def crowd(tenant, count):
    """So many idle WebSockets at once: MiB of the door's process, and what its unit is charged for with the kernel's."""
    count = int(count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1024, count + 1024))
    connections = []
    for _ in range(count):
        connection = connect(door(tenant))
        connection.sendall(UPGRADE)
        connections.append(connection)
        if b" 101 " not in connection.recv(4096):
            sys.exit(f"connection {len(connections)} was not upgraded")
    last = connections[-1]
    last.sendall(b"still there")
    if last.recv(64) != b"still there":
        sys.exit("the last connection does not echo")
    service = f"tenantd-ingress@{tenant.replace('-', chr(92) + 'x2d')}.service"
    pid = run("systemctl", "show", "--value", "--property=MainPID", service).strip()
    charged = run("systemctl", "show", "--value", "--property=MemoryCurrent", service).strip()
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    rss = next(line for line in status if line.startswith("VmRSS:"))
    for connection in connections:
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    return {"rss": int(rss.split()[1]) / 1024, "charged": int(charged) / 2**20}


if __name__ == "__main__":
    main(frozen, paged, stopped, started, latency, download, crowd)
